/* A libcuda that knows how many GPUs there are by the device nodes that it may open, and that has one kernel: y = a * x + y
 * over n numbers, which it computes itself, a thread after the other, if it is launched as that must be. Its memory is the
 * process's. With FAKE_CUDA=wrong it miscalculates, with FAKE_CUDA=old it cannot compile. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS, INVALID_VALUE, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, UNSUPPORTED_PTX = 222, NOT_FOUND = 500 };

static const char KERNEL[] = ".visible .entry axpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)";
static int devices[32], known = -1, context, module;

static int is(const char *mode) {
    const char *asked = getenv("FAKE_CUDA");
    return asked && !strcmp(asked, mode);
}

static void look(void) {
    known = 0;
    for (int minor = 0; minor < 32; minor++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/nvidia%d", minor);
        int node = open(path, O_RDWR | O_CLOEXEC);
        /* Without a driver behind it: the node is there and may be opened. */
        if (node >= 0 || errno == ENXIO || errno == ENODEV)
            devices[known++] = minor;
        if (node >= 0)
            close(node);
    }
}

int cuInit(unsigned flags) {
    look();
    return flags ? INVALID_VALUE : SUCCESS;
}
int cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
int cuGetErrorString(int error, const char **text) {
    *text = error == UNSUPPORTED_PTX ? "the provided PTX was compiled with an unsupported toolchain." : "an error";
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    if (known < 0)
        look();
    *count = known;
    return SUCCESS;
}
int cuDeviceGet(int *device, int index) {
    *device = index;
    return index < known ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "Fake %d", devices[device]);
    return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : 0;
    return device < known ? SUCCESS : INVALID_DEVICE;
}

int cuDevicePrimaryCtxRetain(void **found, int device) { *found = &context; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuCtxSetCurrent(void *asked) { return asked == &context ? SUCCESS : INVALID_CONTEXT; }
int cuCtxSynchronize(void) { return SUCCESS; }

int cuModuleLoadData(void **loaded, const char *ptx) {
    *loaded = &module;
    if (is("old"))
        return UNSUPPORTED_PTX;
    return strstr(ptx, "\n.target sm_") && strstr(ptx, KERNEL) ? SUCCESS : INVALID_VALUE;
}
int cuModuleGetFunction(void **function, void *of, const char *name) {
    *function = (void *)KERNEL;
    return of == &module && !strcmp(name, "axpy") ? SUCCESS : NOT_FOUND;
}
int cuModuleUnload(void *loaded) { return SUCCESS; }

int cuMemAlloc_v2(unsigned long long *place, size_t size) {
    *place = (unsigned long long)malloc(size);
    return *place ? SUCCESS : 2;
}
int cuMemFree_v2(unsigned long long place) { free((void *)place); return SUCCESS; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size) { memcpy((void *)to, from, size); return SUCCESS; }
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t size) { memcpy(to, (void *)from, size); return SUCCESS; }

int cuLaunchKernel(void *function, unsigned blocks, unsigned rows, unsigned planes, unsigned threads, unsigned y_threads,
                   unsigned z_threads, unsigned shared, void *stream, void **parameters, void **extra) {
    if (function != KERNEL || rows != 1 || planes != 1 || y_threads != 1 || z_threads != 1 || !parameters || extra)
        return INVALID_VALUE;
    const float *x = *(const float **)parameters[0];
    float *y = *(float **)parameters[1];
    const float a = *(float *)parameters[2];
    const unsigned n = *(unsigned *)parameters[3];
    for (unsigned i = 0; i < blocks * threads; i++)
        if (i < n)
            y[i] = a * x[i] + y[i];
    if (is("wrong"))
        y[n - 1] += 1;
    return SUCCESS;
}

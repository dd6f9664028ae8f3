/* A libcuda that knows how many GPUs there are by the device nodes that it may open. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }

int cuDeviceGetCount(int *count) {
    *count = 0;
    for (int minor = 0; minor < 32; minor++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/nvidia%d", minor);
        int node = open(path, O_RDWR | O_CLOEXEC);
        /* Without a driver behind it: the node is there and may be opened. */
        if (node >= 0 || errno == ENXIO || errno == ENODEV)
            ++*count;
        if (node >= 0)
            close(node);
    }
    return 0;
}

/* Prints what the real one would have to find out: it looks for the library as that does. */
#include <dlfcn.h>
#include <stdio.h>

int main(void) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        printf("NVIDIA-SMI couldn't find libnvidia-ml.so library: %s\n", dlerror());
        return 12;
    }
    int (*get_version)(char *, unsigned) = (int (*)(char *, unsigned))dlsym(library, "nvmlSystemGetDriverVersion");
    int (*get_count)(unsigned *) = (int (*)(unsigned *))dlsym(library, "nvmlDeviceGetCount_v2");
    char version[80] = "";
    unsigned count = 0;
    if (!get_version || !get_count || get_version(version, sizeof version) || get_count(&count))
        return 13;
    printf("driver %s, %u GPUs\n", version, count);
    return 0;
}

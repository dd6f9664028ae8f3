#include <string.h>

extern int cuDeviceGetCount(int *count);

int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { return cuDeviceGetCount((int *)count); }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    strncpy(version, DRIVER_VERSION, length);
    return 0;
}

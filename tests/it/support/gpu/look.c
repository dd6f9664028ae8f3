/* Says what a process sees of a driver: nodes with their numbers, mounts, variables. Static: it runs in any root. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static void nodes(const char *directory) {
    DIR *entries = opendir(directory);
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        char path[4096];
        struct stat found;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (!strstr(entry->d_name, "nvidia") || stat(path, &found))
            continue;
        if (S_ISDIR(found.st_mode))
            nodes(path);
        else
            printf("node %s %u %u\n", path, major(found.st_rdev), minor(found.st_rdev));
    }
    if (entries)
        closedir(entries);
}

static void mounts(void) {
    FILE *table = fopen("/proc/self/mountinfo", "r");
    char line[8192], target[4096], options[4096];
    while (table && fgets(line, sizeof line, table)) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s %4095s", target, options) != 2 || !strncmp(target, "/dev/", 5))
            continue;
        if (strstr(target, "nvidia") || strstr(target, "libcuda"))
            printf("mount %s %.2s\n", target, options);
    }
}

int main(void) {
    const char *variables[] = {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"};
    nodes("/dev");
    mounts();
    for (int i = 0; i < 2; i++)
        if (getenv(variables[i]))
            printf("variable %s=%s\n", variables[i], getenv(variables[i]));
    return 0;
}

/* A fault at the N-th call of the whole process, whatever thread makes it: strace counts the calls of each thread apart.
 *
 * Loaded by LD_PRELOAD. Only calls on files below FAULT_UNDER count, so that neither the linker nor an eventfd is hit.
 *   FAULT_CALLS  names, separated by commas
 *   FAULT_AT     N; 0 only notes the calls
 *   FAULT_DO     a signal's number with a minus sign, an errno, or "short": half of the bytes are written, as a system may
 *   FAULT_LOG    a line for each call that was hit, or, with N = 0, for each call
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHORT -1
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *under, *calls, *what, *log_path;
static long at;
static atomic_long seen;

__attribute__((constructor)) static void start(void)
{
    under = getenv("FAULT_UNDER");
    calls = getenv("FAULT_CALLS");
    what = getenv("FAULT_DO");
    log_path = getenv("FAULT_LOG");
    at = atol(getenv("FAULT_AT"));
}

static void note(const char *call, const char *path)
{
    char line[PATH_MAX + 64];
    int len = snprintf(line, sizeof line, "%s %s\n", call, path);
    int fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    syscall(SYS_write, fd, line, len);
    syscall(SYS_close, fd);
}

static int named(const char *call)
{
    size_t len = strlen(call);
    for (const char *p = calls; (p = strstr(p, call)); p += len)
        if ((p == calls || p[-1] == ',') && (p[len] == 0 || p[len] == ','))
            return 1;
    return 0;
}

/* 0: nothing happens; SHORT; or the errno to fail with. */
static int fault(const char *call, const char *path)
{
    if (!under || strncmp(path, under, strlen(under)) != 0 || !named(call))
        return 0;
    long n = atomic_fetch_add(&seen, 1) + 1;
    if (at != 0 && n != at)
        return 0;
    note(call, path);
    if (at == 0)
        return 0;
    if (strcmp(what, "short") == 0)
        return SHORT;
    int number = atoi(what);
    if (number < 0) {
        kill(getpid(), -number);
        return 0;
    }
    return number;
}

static int fault_fd(const char *call, int fd)
{
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    long len = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof path - 1);
    path[len < 0 ? 0 : len] = 0;
    return fault(call, path);
}

#define FAIL(call) do { int e = call; if (e > 0) { errno = e; return -1; } } while (0)

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;
    va_end(more);
    FAIL(fault(flags & O_CREAT ? "create" : "open", path));
    return NEXT(open64)(path, flags, mode);
}

DIR *opendir(const char *path)
{
    int e = fault("open", path);
    if (e > 0) {
        errno = e;
        return NULL;
    }
    return NEXT(opendir)(path);
}

ssize_t read(int fd, void *to, size_t len)
{
    FAIL(fault_fd("read", fd));
    return NEXT(read)(fd, to, len);
}

ssize_t pread64(int fd, void *to, size_t len, off64_t from)
{
    FAIL(fault_fd("read", fd));
    return NEXT(pread64)(fd, to, len, from);
}

ssize_t write(int fd, const void *from, size_t len)
{
    int e = fault_fd("write", fd);
    if (e > 0) {
        errno = e;
        return -1;
    }
    return NEXT(write)(fd, from, e == SHORT ? (len + 1) / 2 : len);
}

/* Positioned writes, of the layers in an export, count as "write" too. */
ssize_t pwrite64(int fd, const void *from, size_t len, off64_t to)
{
    int e = fault_fd("write", fd);
    if (e > 0) {
        errno = e;
        return -1;
    }
    return NEXT(pwrite64)(fd, from, e == SHORT ? (len + 1) / 2 : len, to);
}

ssize_t writev(int fd, const struct iovec *from, int count)
{
    int e = fault_fd("write", fd);
    if (e > 0) {
        errno = e;
        return -1;
    }
    return e == SHORT ? NEXT(write)(fd, from->iov_base, (from->iov_len + 1) / 2) : NEXT(writev)(fd, from, count);
}

int fsync(int fd) { FAIL(fault_fd("fsync", fd)); return NEXT(fsync)(fd); }
int fdatasync(int fd) { FAIL(fault_fd("fsync", fd)); return NEXT(fdatasync)(fd); }
int fchmod(int fd, mode_t mode) { FAIL(fault_fd("fchmod", fd)); return NEXT(fchmod)(fd, mode); }
int ftruncate64(int fd, off64_t len) { FAIL(fault_fd("ftruncate", fd)); return NEXT(ftruncate64)(fd, len); }
int close(int fd) { fault_fd("close", fd); return NEXT(close)(fd); }
int mkdir(const char *path, mode_t mode) { FAIL(fault("mkdir", path)); return NEXT(mkdir)(path, mode); }
int unlink(const char *path) { FAIL(fault("unlink", path)); return NEXT(unlink)(path); }
int rename(const char *from, const char *to) { FAIL(fault("rename", to)); return NEXT(rename)(from, to); }

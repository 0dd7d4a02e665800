/* Preloaded into the daemon: while the file named by FAILING_DISK holds a number, every write to a journal's file fails with that errno. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int wanted(int fd) {
    char link[64], path[512], number[16] = "";
    const char *control = getenv("FAILING_DISK");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (control == NULL || length < 0) return 0;
    path[length] = 0;
    if (strstr(path, "journal.db") == NULL) return 0;
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    ssize_t (*real_read)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    int handle = real_open(control, O_RDONLY);
    if (handle < 0) return 0;
    real_read(handle, number, sizeof number - 1);
    close(handle);
    return atoi(number);
}

#define FAILS(fd) do { int code = wanted(fd); if (code) { errno = code; return -1; } } while (0)

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    FAILS(fd);
    return ((ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite"))(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    FAILS(fd);
    return ((ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64"))(fd, data, size, at);
}

int fsync(int fd) {
    FAILS(fd);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    FAILS(fd);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

/* A library for LD_PRELOAD that records the calls of a process on the files below one folder, or makes one of them fail.

   FAULTS_UNDER   the folder; calls on all other files pass untouched
   FAULTS_RECORD  a file outside the folder: every call that took effect, with its data, in order (read by power.py)
   FAULTS_FAIL    "n kind": the n-th call fails. Kinds: EIO, ENOSPC; SHORT (the n-th call, or the next one that writes,
                  writes half of its data and returns that size)

   Each entry of the record is one write to an O_APPEND file, so that another process may put marks between entries:
   struct entry, path, data. Shared memory (-shm) is not recorded, because it does not survive a loss of power.

   The calls are those that change a file, its name, or what is durable: write, pwrite, ftruncate, fallocate, fsync,
   fdatasync, unlink, rename, and open if it makes a file. faults_arm() starts the count anew. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, UNLINK, RENAME };
enum { NONE, FAIL_EIO, FAIL_ENOSPC, FAIL_SHORT };

struct entry { uint32_t kind, path_bytes; uint64_t offset, data_bytes; };

static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char under[PATH_MAX];
static int record_fd = -1, fail_kind = NONE;
static long fail_at = -1, calls = 0, failed = 0;

void faults_arm(const char *folder, long n, const char *kind) {
    snprintf(under, sizeof under, "%s", folder);
    calls = failed = 0;
    fail_at = n;
    fail_kind = !strcmp(kind, "EIO") ? FAIL_EIO : !strcmp(kind, "ENOSPC") ? FAIL_ENOSPC : FAIL_SHORT;
}

long faults_failed(void) { return failed; }
long faults_calls(void) { return calls; }

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("FAULTS_UNDER"), *record = getenv("FAULTS_RECORD"), *fail = getenv("FAULTS_FAIL");
    if (!folder) return;
    snprintf(under, sizeof under, "%s", folder);
    if (record) record_fd = syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    char kind[16];
    long n;
    if (fail && sscanf(fail, "%ld %15s", &n, kind) == 2) faults_arm(folder, n, kind);
}

/* Return 1 if `path` is the folder or below it. */
static int is_ours(const char *path) {
    size_t length = strlen(under);
    return length && !strncmp(path, under, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

static int is_shared_memory(const char *path) {
    size_t length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, "-shm");
}

static void note(int kind, const char *path, uint64_t offset, const void *data, size_t data_bytes) {
    if (record_fd < 0 || is_shared_memory(path)) return;
    struct entry entry = {kind, strlen(path), offset, data_bytes};
    struct iovec parts[] = {
        {&entry, sizeof entry}, {(void *)path, entry.path_bytes}, {(void *)data, data_bytes}};
    if (syscall(SYS_writev, record_fd, parts, 3) != (ssize_t)(sizeof entry + entry.path_bytes + data_bytes)) abort();
}

/* Count one more call and return how it is to fail, NONE for not at all. */
static int fate(int writes) {
    calls++;
    if (failed || fail_kind == NONE || (fail_kind == FAIL_SHORT ? !writes || calls < fail_at : calls != fail_at)) return NONE;
    failed = 1;
    return fail_kind;
}

static int fails_with(int what) {
    errno = what == FAIL_EIO ? EIO : ENOSPC;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define LOCK() int kept = (pthread_mutex_lock(&turn), 0); (void)kept
#define UNLOCK() do { kept = errno; pthread_mutex_unlock(&turn); errno = kept; } while (0)

static ssize_t put(int fd, const void *data, size_t size, off64_t at, int is_positioned) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) {
        return is_positioned ? syscall(SYS_pwrite64, fd, data, size, at) : syscall(SYS_write, fd, data, size);
    }
    LOCK();
    ssize_t done;
    int what = fate(size > 1);
    if (what == FAIL_EIO || what == FAIL_ENOSPC) {
        done = fails_with(what);
    } else {
        if (what == FAIL_SHORT) size /= 2;
        if (!is_positioned) at = lseek64(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
        done = is_positioned ? syscall(SYS_pwrite64, fd, data, size, at) : syscall(SYS_write, fd, data, size);
        if (done > 0) note(WRITE, path, at, data, done);
    }
    UNLOCK();
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return put(fd, data, size, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return put(fd, data, size, at, 1); }

static int resize(int fd, off64_t size, int (*real)(int, off64_t)) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, size);
    LOCK();
    int what = fate(0);
    int done = what != NONE ? fails_with(what) : real(fd, size);
    if (!done) note(TRUNCATE, path, size, NULL, 0);
    UNLOCK();
    return done;
}

int ftruncate64(int fd, off64_t size) { return resize(fd, size, REAL(ftruncate64)); }
int ftruncate(int fd, off_t size) { return resize(fd, size, REAL(ftruncate64)); }

/* Reserving room grows the file. Like any growth, it is durable once it is synced. */
static int reserve(int fd, off64_t from, off64_t size, int (*real)(int, off64_t, off64_t)) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, from, size);
    LOCK();
    int what = fate(0);
    struct stat64 before;
    fstat64(fd, &before);
    int done = what == NONE ? real(fd, from, size) : what == FAIL_EIO ? EIO : ENOSPC; /* it returns the error number, unlike other calls */
    if (!done && from + size > before.st_size) note(TRUNCATE, path, from + size, NULL, 0);
    UNLOCK();
    return done;
}

int posix_fallocate64(int fd, off64_t from, off64_t size) { return reserve(fd, from, size, REAL(posix_fallocate64)); }
int posix_fallocate(int fd, off_t from, off_t size) { return reserve(fd, from, size, REAL(posix_fallocate64)); }

static int sync_file(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd);
    LOCK();
    int what = fate(0);
    int done = what != NONE ? fails_with(what) : real(fd);
    if (!done) note(SYNC, path, 0, NULL, 0);
    UNLOCK();
    return done;
}

int fsync(int fd) { return sync_file(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_file(fd, REAL(fdatasync)); }

int unlink(const char *path) {
    if (!is_ours(path)) return REAL(unlink)(path);
    LOCK();
    int what = fate(0);
    int done = what != NONE ? fails_with(what) : REAL(unlink)(path);
    if (!done) note(UNLINK, path, 0, NULL, 0);
    UNLOCK();
    return done;
}

int rename(const char *from, const char *to) {
    if (!is_ours(from)) return REAL(rename)(from, to);
    LOCK();
    int what = fate(0);
    int done = what != NONE ? fails_with(what) : REAL(rename)(from, to);
    if (!done) note(RENAME, from, 0, to, strlen(to));
    UNLOCK();
    return done;
}

static int make(const char *path, int flags, mode_t mode) {
    if (!(flags & O_CREAT) || !is_ours(path)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    LOCK();
    int is_new = syscall(SYS_faccessat, AT_FDCWD, path, F_OK, 0) != 0;
    int what = is_new ? fate(0) : NONE;
    int fd = what != NONE ? fails_with(what) : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && is_new) note(CREATE, path, 0, NULL, 0);
    if (fd >= 0 && !is_new && flags & O_TRUNC) note(TRUNCATE, path, 0, NULL, 0);
    UNLOCK();
    return fd;
}

#define MODE(flags) mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags) return make(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return make(path, flags | O_LARGEFILE, mode); }

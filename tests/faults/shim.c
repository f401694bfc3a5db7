// Makes one call into the C library fail: loaded in front of it by LD_PRELOAD.
//
// FAULT is "NAME NTH COUNT ERRNO": the NTH call of NAME and the COUNT - 1 behind it (0: all behind it) fail with
// ERRNO. An ERRNO of 0 means short instead: the call transfers one byte. FAULT_LOG names a file that is made when
// the first of them fails.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char wanted[32];
static long nth, count, error_number;
static const char *log_path;
static atomic_long seen;

__attribute__((constructor)) static void start(void) {
  const char *fault = getenv("FAULT");
  log_path = getenv("FAULT_LOG");
  if (!fault || sscanf(fault, "%31s %ld %ld %ld", wanted, &nth, &count, &error_number) != 4) wanted[0] = 0;
}

enum { NO, FAIL, SHORT };

// What becomes of this call of `name`.
static int fate(const char *name) {
  if (!wanted[0] || strcmp(name, wanted)) return NO;
  long number = atomic_fetch_add(&seen, 1) + 1;
  if (number < nth || (count && number >= nth + count)) return NO;
  if (log_path) {
    int saved = errno;
    long fd = syscall(SYS_openat, AT_FDCWD, log_path, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) syscall(SYS_close, fd);
    errno = saved;
  }
  if (!error_number) return SHORT;
  errno = (int)error_number;
  return FAIL;
}

#define NEXT(name) \
  static __typeof__(&name) next; \
  if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

// A call that only succeeds or fails.
#define PLAIN(type, failed, kind, name, params, args) \
  type name params { \
    NEXT(name); \
    if (fate(kind) != NO) return failed; \
    return next args; \
  }

// A call that may also transfer less than it was asked for.
#define TRANSFER(kind, name, params, args, len) \
  ssize_t name params { \
    NEXT(name); \
    int it = fate(kind); \
    if (it == FAIL) return -1; \
    if (it == SHORT && len > 1) len = 1; \
    return next args; \
  }

TRANSFER("read", read, (int fd, void *buf, size_t len), (fd, buf, len), len)
TRANSFER("pread", pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at), len)
TRANSFER("pread", pread64, (int fd, void *buf, size_t len, off64_t at), (fd, buf, len, at), len)
TRANSFER("recv", recv, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags), len)
TRANSFER("recv", recvfrom,
         (int fd, void *buf, size_t len, int flags, struct sockaddr *from, socklen_t *from_len),
         (fd, buf, len, flags, from, from_len), len)
TRANSFER("write", write, (int fd, const void *buf, size_t len), (fd, buf, len), len)
TRANSFER("send", send, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags), len)

PLAIN(ssize_t, -1, "read", readv, (int fd, const struct iovec *parts, int n), (fd, parts, n))
PLAIN(ssize_t, -1, "write", writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
PLAIN(int, -1, "accept", accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags), (fd, from, len, flags))
PLAIN(int, -1, "connect", connect, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
PLAIN(int, -1, "socket", socket, (int domain, int type, int protocol), (domain, type, protocol))
PLAIN(int, -1, "listen", listen, (int fd, int backlog), (fd, backlog))
PLAIN(int, -1, "epoll_wait", epoll_wait, (int fd, struct epoll_event *events, int n, int ms), (fd, events, n, ms))
PLAIN(int, -1, "epoll_ctl", epoll_ctl, (int fd, int op, int other, struct epoll_event *event), (fd, op, other, event))
PLAIN(int, -1, "epoll_create", epoll_create1, (int flags), (flags))
PLAIN(int, -1, "poll", poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
PLAIN(int, -1, "stat", fstat, (int fd, struct stat *to), (fd, to))
PLAIN(int, -1, "stat", fstat64, (int fd, struct stat64 *to), (fd, to))
PLAIN(int, -1, "stat", stat64, (const char *path, struct stat64 *to), (path, to))
PLAIN(int, -1, "stat", statx, (int fd, const char *path, int flags, unsigned mask, struct statx *to),
      (fd, path, flags, mask, to))
PLAIN(int, -1, "stat", lstat64, (const char *path, struct stat64 *to), (path, to))
PLAIN(int, -1, "stat", fstatat64, (int fd, const char *path, struct stat64 *to, int flags), (fd, path, to, flags))
PLAIN(DIR *, NULL, "opendir", opendir, (const char *path), (path))
PLAIN(int, -1, "fsync", fsync, (int fd), (fd))
PLAIN(int, -1, "fsync", fdatasync, (int fd), (fd))
PLAIN(int, -1, "rename", rename, (const char *from, const char *to), (from, to))
PLAIN(int, -1, "mkdir", mkdir, (const char *path, mode_t mode), (path, mode))
PLAIN(void *, MAP_FAILED, "mmap", mmap64, (void *at, size_t len, int prot, int flags, int fd, off64_t offset),
      (at, len, prot, flags, fd, offset))
PLAIN(void *, MAP_FAILED, "mmap", mmap, (void *at, size_t len, int prot, int flags, int fd, off_t offset),
      (at, len, prot, flags, fd, offset))
// Threads: it returns the error itself.
PLAIN(int, (int)error_number, "clone", pthread_create,
      (pthread_t *to, const pthread_attr_t *attr, void *(*run)(void *), void *arg), (to, attr, run, arg))

static int open_mode(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; }

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    NEXT(name); \
    va_list rest; \
    va_start(rest, flags); \
    int mode = open_mode(flags, rest); \
    va_end(rest); \
    if (fate("open") != NO) return -1; \
    return next(path, flags, mode); \
  }

OPEN(open)
OPEN(open64)

int openat64(int at, const char *path, int flags, ...) {
  NEXT(openat64);
  va_list rest;
  va_start(rest, flags);
  int mode = open_mode(flags, rest);
  va_end(rest);
  if (fate("open") != NO) return -1;
  return next(at, path, flags, mode);
}

// Large allocations, as they are made at the start and when tables grow.
#define LARGE (64 << 10)

void *malloc(size_t size) {
  NEXT(malloc);
  if (size >= LARGE && fate("alloc") != NO) return NULL;
  return next(size);
}

void *realloc(void *at, size_t size) {
  NEXT(realloc);
  if (size >= LARGE && fate("alloc") != NO) return NULL;
  return next(at, size);
}

int posix_memalign(void **to, size_t align, size_t size) {
  NEXT(posix_memalign);
  if (size >= LARGE && fate("alloc") != NO) return ENOMEM;
  return next(to, align, size);
}

// Makes one call into the C library fail: loaded in front of it by LD_PRELOAD.
//
// FAULT is "NAME NTH COUNT ERRNO": the NTH call of NAME and the COUNT - 1 behind it (0: all behind it) fail with
// ERRNO. An ERRNO of 0 means short instead: the call transfers one byte.
//
// FAULT_LOG names a file of ENTRIES entries of 40 bytes, zeros at first. It holds, for each name that was called, how
// often it was called, how often it failed, and how often it failed on standard error. It is mapped, so that it is
// right however the program ends.
//
// FAULT_BEGIN, if set, names a path: nothing is counted before it is opened.
//
// Some code of the program itself asks the kernel without the C library (`rustix`: inotify, directories that are held
// open). Those calls are trapped by a filter (seccomp), and counted and failed in the handler of its signal.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define ENTRIES 64

struct entry {
  char name[16];
  atomic_ulong called, failed, failed_on_stderr;
};

static char wanted[16];
static long nth, count, error_number;
static const char *begin;
static atomic_int has_begun;
// Where there is no file, so that calls before `start` find it, too.
static struct entry nowhere[ENTRIES], *entries = nowhere;

static void trap_raw_calls(void);

__attribute__((constructor)) static void start(void) {
  const char *fault = getenv("FAULT");
  if (!fault || sscanf(fault, "%15s %ld %ld %ld", wanted, &nth, &count, &error_number) != 4) wanted[0] = 0;
  begin = getenv("FAULT_BEGIN");
  const char *log = getenv("FAULT_LOG");
  if (log) {
    // Not by the functions below, which count.
    long fd = syscall(SYS_openat, AT_FDCWD, log, O_RDWR);
    long at = syscall(SYS_mmap, NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0 && at != -1) entries = (struct entry *)at;
    if (fd >= 0) syscall(SYS_close, fd);
  }
  trap_raw_calls();
  atomic_store(&has_begun, !begin);
}

// The entry of a name: each call site asks once.
static struct entry *entry_of(const char *name) {
  static atomic_flag busy = ATOMIC_FLAG_INIT;
  struct entry *found = NULL;
  while (atomic_flag_test_and_set(&busy)) {
  }
  for (int i = 0; i < ENTRIES && !found; i++) {
    if (!entries[i].name[0]) strncpy(entries[i].name, name, sizeof entries[i].name - 1);
    if (!strcmp(entries[i].name, name)) found = &entries[i];
  }
  atomic_flag_clear(&busy);
  if (!found) abort();
  return found;
}

enum { NO, FAIL, SHORT };

// What becomes of this call of `name`, which is about `fd`.
static int fate(const char *name, int fd) {
  if (!atomic_load(&has_begun)) return NO;
  int saved = errno;
  struct entry *entry = entry_of(name);
  long number = atomic_fetch_add(&entry->called, 1) + 1;
  if (strcmp(name, wanted) || number < nth || (count && number >= nth + count)) {
    errno = saved;
    return NO;
  }
  atomic_fetch_add(&entry->failed, 1);
  if (fd == STDERR_FILENO) atomic_fetch_add(&entry->failed_on_stderr, 1);
  if (!error_number) {
    errno = saved;
    return SHORT;
  }
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
    if (fate(kind, -1) != NO) return failed; \
    return next args; \
  }

// A call that is about a descriptor.
#define PLAIN_FD(type, failed, kind, name, params, args) \
  type name params { \
    NEXT(name); \
    if (fate(kind, fd) != NO) return failed; \
    return next args; \
  }

// A call that may also transfer less than it was asked for.
#define TRANSFER(kind, name, params, args, len) \
  ssize_t name params { \
    NEXT(name); \
    int it = fate(kind, fd); \
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

PLAIN_FD(ssize_t, -1, "read", readv, (int fd, const struct iovec *parts, int n), (fd, parts, n))
PLAIN_FD(ssize_t, -1, "write", writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
PLAIN(ssize_t, -1, "recv", recvmsg, (int fd, struct msghdr *to, int flags), (fd, to, flags))
PLAIN(int, -1, "accept", accept4, (int fd, struct sockaddr *from, socklen_t *len, int flags), (fd, from, len, flags))
PLAIN(int, -1, "connect", connect, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
PLAIN(int, -1, "socket", socket, (int domain, int type, int protocol), (domain, type, protocol))
PLAIN(int, -1, "socketpair", socketpair, (int domain, int type, int protocol, int fds[2]),
      (domain, type, protocol, fds))
PLAIN(int, -1, "bind", bind, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
PLAIN(int, -1, "setsockopt", setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
      (fd, level, name, value, len))
PLAIN(int, -1, "getsockopt", getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
      (fd, level, name, value, len))
PLAIN(int, -1, "getsockname", getsockname, (int fd, struct sockaddr *to, socklen_t *len), (fd, to, len))
PLAIN(int, -1, "shutdown", shutdown, (int fd, int how), (fd, how))
PLAIN(int, -1, "listen", listen, (int fd, int backlog), (fd, backlog))
PLAIN(int, -1, "epoll_wait", epoll_wait, (int fd, struct epoll_event *events, int n, int ms), (fd, events, n, ms))
PLAIN(int, -1, "epoll_ctl", epoll_ctl, (int fd, int op, int other, struct epoll_event *event), (fd, op, other, event))
PLAIN(int, -1, "epoll_create", epoll_create1, (int flags), (flags))
PLAIN(int, -1, "eventfd", eventfd, (unsigned value, int flags), (value, flags))
PLAIN(int, -1, "inotify_init", inotify_init1, (int flags), (flags))
PLAIN(int, -1, "inotify_watch", inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask))
PLAIN(int, -1, "poll", poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
PLAIN(int, -1, "stat", fstat, (int fd, struct stat *to), (fd, to))
PLAIN(int, -1, "stat", fstat64, (int fd, struct stat64 *to), (fd, to))
PLAIN(int, -1, "stat", stat64, (const char *path, struct stat64 *to), (path, to))
PLAIN(int, -1, "stat", statx, (int fd, const char *path, int flags, unsigned mask, struct statx *to),
      (fd, path, flags, mask, to))
PLAIN(int, -1, "stat", lstat64, (const char *path, struct stat64 *to), (path, to))
PLAIN(int, -1, "stat", fstatat64, (int fd, const char *path, struct stat64 *to, int flags), (fd, path, to, flags))
PLAIN(DIR *, NULL, "opendir", opendir, (const char *path), (path))
PLAIN(DIR *, NULL, "opendir", fdopendir, (int fd), (fd))
PLAIN(struct dirent64 *, NULL, "readdir", readdir64, (DIR *dir), (dir))
PLAIN(off64_t, -1, "lseek", lseek64, (int fd, off64_t to, int from), (fd, to, from))
PLAIN(int, -1, "unlink", unlink, (const char *path), (path))
PLAIN(int, -1, "unlink", unlinkat, (int at, const char *path, int flags), (at, path, flags))
PLAIN(int, -1, "fsync", fsync, (int fd), (fd))
PLAIN(int, -1, "fsync", fdatasync, (int fd), (fd))
PLAIN(int, -1, "rename", rename, (const char *from, const char *to), (from, to))
PLAIN(int, -1, "rename", renameat, (int at, const char *from, int to_at, const char *to), (at, from, to_at, to))
PLAIN(int, -1, "mkdir", mkdirat, (int at, const char *path, mode_t mode), (at, path, mode))
PLAIN(int, -1, "mkdir", mkdir, (const char *path, mode_t mode), (path, mode))
PLAIN(void *, MAP_FAILED, "mmap", mmap64, (void *at, size_t len, int prot, int flags, int fd, off64_t offset),
      (at, len, prot, flags, fd, offset))
PLAIN(void *, MAP_FAILED, "mmap", mmap, (void *at, size_t len, int prot, int flags, int fd, off_t offset),
      (at, len, prot, flags, fd, offset))
// Threads: it returns the error itself.
PLAIN(int, (int)error_number, "clone", pthread_create,
      (pthread_t *to, const pthread_attr_t *attr, void *(*run)(void *), void *arg), (to, attr, run, arg))


// The descriptor is closed all the same: so it is on Linux whatever `close` returns.
int close(int fd) {
  NEXT(close);
  int it = fate("close", fd);
  int error = errno, closed = next(fd);
  if (it == NO) return closed;
  errno = error;
  return -1;
}

int ioctl(int fd, unsigned long request, ...) {
  NEXT(ioctl);
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (fate("ioctl", -1) != NO) return -1;
  return next(fd, request, argument);
}

int fcntl(int fd, int command, ...) {
  NEXT(fcntl);
  va_list rest;
  va_start(rest, command);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (fate("fcntl", -1) != NO) return -1;
  return next(fd, command, argument);
}

static int open_mode(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; }

static int fate_of_open(const char *path) {
  if (begin && !strcmp(path, begin)) atomic_store(&has_begun, 1);
  return fate("open", -1);
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    NEXT(name); \
    va_list rest; \
    va_start(rest, flags); \
    int mode = open_mode(flags, rest); \
    va_end(rest); \
    if (fate_of_open(path) != NO) return -1; \
    return next(path, flags, mode); \
  }

OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int at, const char *path, int flags, ...) { \
    NEXT(name); \
    va_list rest; \
    va_start(rest, flags); \
    int mode = open_mode(flags, rest); \
    va_end(rest); \
    if (fate_of_open(path) != NO) return -1; \
    return next(at, path, flags, mode); \
  }

OPENAT(openat)
OPENAT(openat64)

// Large allocations, as they are made at the start and when tables grow.
#define LARGE (64 << 10)

void *malloc(size_t size) {
  NEXT(malloc);
  if (size >= LARGE && fate("alloc", -1) != NO) return NULL;
  return next(size);
}

// Not by `dlsym`, which may call it.
extern void *__libc_calloc(size_t count, size_t size);

void *calloc(size_t count, size_t size) {
  if (size && count >= LARGE / size && fate("alloc", -1) != NO) return NULL;
  return __libc_calloc(count, size);
}

void *realloc(void *at, size_t size) {
  NEXT(realloc);
  if (size >= LARGE && fate("alloc", -1) != NO) return NULL;
  return next(at, size);
}

int posix_memalign(void **to, size_t align, size_t size) {
  NEXT(posix_memalign);
  if (size >= LARGE && fate("alloc", -1) != NO) return ENOMEM;
  return next(to, align, size);
}

// Calls without the C library. None of them has a sixth argument: one of this value is let through.
#define OURS 0x5f617561

static const struct raw {
  int number;
  const char *name;
} raws[] = {
    {SYS_openat, "open"},
    {SYS_mkdirat, "mkdir"},
    {SYS_renameat, "rename"},
    {SYS_renameat2, "rename"},
    {SYS_unlinkat, "unlink"},
    {SYS_getdents64, "readdir"},
    {SYS_ioctl, "ioctl"},
    {SYS_inotify_init1, "inotify_init"},
    {SYS_inotify_add_watch, "inotify_watch"},
};
#define RAWS (sizeof raws / sizeof raws[0])

// Where the code of the program is.
static uintptr_t code_begin, code_end;

static int find_code(struct dl_phdr_info *object, size_t size, void *unused) {
  (void)size, (void)unused;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[i];
    if (part->p_type == PT_LOAD && part->p_flags & PF_X) {
      code_begin = object->dlpi_addr + part->p_vaddr;
      code_end = code_begin + part->p_memsz;
    }
  }
  return 1;  // The program comes first.
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define ARGUMENT(context, i) \
  ((context)->uc_mcontext.gregs[(int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8}[i]])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define ARGUMENT(context, i) ((context)->uc_mcontext.regs[i])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#endif

#ifdef ARCH
static void on_trap(int signal, siginfo_t *info, void *at) {
  (void)signal;
  ucontext_t *context = at;
  int saved = errno;
  uintptr_t from = (uintptr_t)info->si_call_addr;
  int is_raw = from >= code_begin && from <= code_end, is_failed = 0;
  for (size_t i = 0; i < RAWS && is_raw; i++) {
    if (raws[i].number == info->si_syscall) {
      const char *path = info->si_syscall == SYS_openat ? (const char *)ARGUMENT(context, 1) : "";
      if (begin && !strcmp(path, begin)) atomic_store(&has_begun, 1);
      is_failed = fate(raws[i].name, -1) == FAIL;
      break;
    }
  }
  long result = -1;
  if (!is_failed) {
    result = syscall(info->si_syscall, ARGUMENT(context, 0), ARGUMENT(context, 1), ARGUMENT(context, 2),
                     ARGUMENT(context, 3), ARGUMENT(context, 4), (long)OURS);
  }
  RESULT(context) = result == -1 ? -errno : result;
  errno = saved;
}

static void trap_raw_calls(void) {
  dl_iterate_phdr(find_code, NULL);
  struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
  struct sock_filter filter[2 * RAWS + 8], *to = filter;
  *to++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  *to++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
  *to++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  *to++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]));
  *to++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, RAWS + 1, 0);
  *to++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < RAWS; i++) {
    *to++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, raws[i].number, RAWS - i, 0);
  }
  *to++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  *to++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  struct sock_fprog program = {.len = to - filter, .filter = filter};
  if (sigaction(SIGSYS, &action, NULL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
    perror("faults: calls cannot be trapped");
    _exit(99);
  }
}
#else
static void trap_raw_calls(void) {}
#endif

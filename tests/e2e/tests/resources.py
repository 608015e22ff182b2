"""Holds one of each kind of thing that the kernel keeps for a process; on SIGUSR1 it tries them all and says `KIND ok`."""
import ctypes, fcntl, mmap, os, select, signal, socket, struct, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})


def sigset(*numbers):
    return ctypes.create_string_buffer(sum(1 << (number - 1) for number in numbers).to_bytes(128, "little"))


thread_ask, thread_answer = threading.Event(), threading.Event()


def thread():
    while True:
        thread_ask.wait()
        thread_ask.clear()
        thread_answer.set()


threading.Thread(target=thread, daemon=True).start()

to_child, from_child = os.pipe(), os.pipe()
shared = mmap.mmap(-1, 4096)
stream, datagram = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
child = os.fork()
if child == 0:
    while True:
        word = os.read(to_child[0], 100)
        shared[0:8] = (int.from_bytes(shared[0:8], "little") + 1).to_bytes(8, "little")
        os.write(from_child[1], word)
# What waits in a pipe and in a socket travels too.
waiting = os.pipe()
os.write(waiting[1], b"left in the pipe")
stream[0].send(b"left in the socket")
datagram[0].send(b"left in the datagram")

eventfd = os.eventfd(7, os.EFD_NONBLOCK)
epoll = select.epoll()
epoll.register(eventfd, select.EPOLLIN, )
signalfd = libc.signalfd(-1, sigset(signal.SIGUSR2), 0)
timerfd = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK)
# Not a short one: of a periodic timer that has expired and was not read yet, the kernel says that it is disarmed, and
# CRIU believes it.
os.timerfd_settime(timerfd, initial=3600, interval=1)
set_at = time.monotonic()
folder = tempfile.mkdtemp()
deleted = open(folder + "/deleted", "w+")
deleted.write("still here")
deleted.flush()
os.unlink(folder + "/deleted")
locked = open(folder + "/locked", "w+")
fcntl.lockf(locked, fcntl.LOCK_EX)
# Clocks since boot: the nodes were not booted at the same time, and yet these must not jump.
AHEAD = {clock: time.time() - time.clock_gettime(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)}
# Shared memory with a key, and with a name that both sides have open.
system_v = libc.shmget(0x0F06, 4096, 0o1600)
libc.shmat.restype = ctypes.c_void_p
system_v_at = libc.shmat(system_v, None, 0)
ctypes.memmove(system_v_at, b"keyed", 6)
named = open("/dev/shm/fog", "w+b")
named.truncate(4096)
named_at = mmap.mmap(named.fileno(), 4096)
named_at[0:5] = b"named"
watch = libc.inotify_init1(os.O_NONBLOCK)
watched = folder + "/watched"
os.mkdir(watched)
assert libc.inotify_add_watch(watch, watched.encode(), 0x100) > 0  # IN_CREATE
alarms = 0


def alarm(*_):
    global alarms
    alarms += 1


signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
# A sleep in a thread of its own, longer than a move takes; it must not end early.
sleeps = []


def sleeper():
    while True:
        began = time.time()
        time.sleep(3)
        sleeps.append(time.time() - began)


threading.Thread(target=sleeper, daemon=True).start()


def events_of(descriptor, timeout=5):
    return bool(select.select([descriptor], [], [], timeout)[0])


def tries(round):
    thread_ask.set()
    yield "thread", thread_answer.wait(10)
    thread_answer.clear()
    before = int.from_bytes(shared[0:8], "little")
    os.write(to_child[1], b"ping")
    yield "child", os.read(from_child[0], 100) == b"ping" and os.waitpid(child, os.WNOHANG) == (0, 0)
    yield "shared-memory", int.from_bytes(shared[0:8], "little") == before + 1
    yield "pipe", os.read(waiting[0], 100) == b"left in the pipe"
    os.write(waiting[1], b"left in the pipe")
    yield "unix-stream", stream[1].recv(100) == b"left in the socket"
    stream[0].send(b"left in the socket")
    yield "unix-datagram", datagram[1].recv(100) == b"left in the datagram"
    datagram[0].send(b"left in the datagram")
    yield "epoll", epoll.poll(0) == [(eventfd, select.EPOLLIN)]
    yield "eventfd", os.eventfd_read(eventfd) == 7 and epoll.poll(0) == []
    os.eventfd_write(eventfd, 7)
    os.kill(os.getpid(), signal.SIGUSR2)
    yield "signalfd", events_of(signalfd) and struct.unpack("I", os.read(signalfd, 128)[:4])[0] == signal.SIGUSR2
    left, since = os.timerfd_gettime(timerfd)[0], time.monotonic() - set_at
    yield "timerfd", abs(3600 - since - left) < 60 and not events_of(timerfd, 0)
    deleted.seek(0)
    yield "deleted-file", deleted.read() == "still here"
    other = os.fork()
    if other == 0:
        try:
            fcntl.lockf(open(folder + "/locked", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            os._exit(1)
        except OSError:
            os._exit(0)
    yield "file-lock", os.waitpid(other, 0)[1] == 0
    count = alarms
    deadline = time.monotonic() + 5
    while alarms == count and time.monotonic() < deadline:
        time.sleep(0.01)
    yield "timer", alarms > count
    wanted = len(sleeps) + 1
    while len(sleeps) < wanted:
        time.sleep(0.01)
    jumps = [abs(time.time() - time.clock_gettime(clock) - ahead) for clock, ahead in AHEAD.items()]
    yield "clocks", max(jumps) < 60 or jumps
    same = libc.shmget(0x0F06, 4096, 0) == system_v
    yield "system-v-memory", same and ctypes.string_at(system_v_at) == b"keyed"
    yield "named-memory", open("/dev/shm/fog", "rb").read(5) == bytes(named_at[0:5]) == b"named"
    open(f"{watched}/{round}", "w").close()
    yield "inotify", events_of(watch) and str(round).encode() in os.read(watch, 4096)
    yield "sleep-goes-on", min(sleeps) >= 2.99 or min(sleeps)


round = 0
while True:
    signal.sigwait({signal.SIGUSR1})
    print(f"round {round}", flush=True)
    for kind, result in tries(round):
        print(kind, "ok" if result is True else f"FAILED {result}", flush=True)
    print(f"round {round} over", flush=True)
    round += 1

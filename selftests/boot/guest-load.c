// SPDX-License-Identifier: GPL-2.0
/*
 * The first and only process of a guest that is migrated: loads the interrupt
 * paths without a break, with timers, interprocessor interrupts, disk and
 * network I/O, and looks at each result.
 *
 * Arguments, on the kernel's command line behind "--": the number of processors
 * and the address of an echo server.
 *
 * Commands come on the second serial port, a line each, and so do the answers:
 *   check N    every worker and every interrupt has to go on from here. Answer:
 *              "check N pass up=MS late=MS counts...", or "check N fail: WHY"
 *   end        looks at the whole disk. Answer: "end pass ..." or "end fail: WHY";
 *              then the guest reboots
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/types.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define MAX_CPUS		16
#define MS			1000000ull	/* in ns */
#define PERIOD_NS		(10 * MS)
/* What is later than that is not on time, and what takes longer does not come. */
#define PATIENCE_NS		(60000 * MS)
#define PAUSE_US		1000

#define REPORT			"/dev/ttyS1"
#define DISK			"/dev/vda"
#define CLUSTER		16384
#define NR_BLOCKS		256
#define OWN_ADDRESS		"10.0.9.2"
#define ECHO_PORT		7
#define CHUNK_SIZE		2048

struct worker {
	const char *name;
	void *(*run)(void *worker);
	unsigned int cpu;
	unsigned long progress;		/* that a check waits for */
	atomic_ulong done;
	unsigned long before;
	pthread_t thread;
};

/* Rows of /proc/interrupts that have to go up. */
static struct row {
	const char *name;
	const char *labels[4];		/* one of them is in the row */
	bool only_smp;
	unsigned long before, now;
} rows[] = {
	{ "timer", { "LOC:", "timer" } },
	{ "ipi", { "RES:", "CAL:", "TLB:" }, true },
	{ "disk", { "virtio0" } },
	{ "net", { "eth0", "virtio1" } },
};

static unsigned int nr_cpus;
static struct in_addr server;
static struct worker workers[2 * MAX_CPUS + 3];
static unsigned int nr_workers;
static atomic_bool stopped;
static atomic_ullong latest_ns;
static __u32 generation[NR_BLOCKS];	/* of what is on the disk */

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static char fault_text[200];

/* The first fault is the one that is told. */
static void fault(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	pthread_mutex_lock(&fault_lock);
	if (!fault_text[0])
		vsnprintf(fault_text, sizeof(fault_text), format, args);
	pthread_mutex_unlock(&fault_lock);
	va_end(args);
}

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void run_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fault("cannot run on processor %u: %s", cpu, strerror(errno));
}

/* The same bytes for the same two numbers. */
static void fill(void *buffer, size_t size, __u32 a, __u32 b)
{
	__u64 x = (__u64)a << 32 | b, *words = buffer;
	size_t i;

	for (i = 0; i < size / sizeof(*words); i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		words[i] = x;
	}
}

/*
 * The workers.
 */

/* Sleeps that end at a time: never before it. */
static void *sleep_until(void *arg)
{
	struct worker *worker = arg;
	__u64 next = now_ns(), now, latest;

	run_on(worker->cpu);
	while (!stopped) {
		struct timespec ts;

		next += PERIOD_NS;
		ts.tv_sec = next / 1000000000;
		ts.tv_nsec = next % 1000000000;
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL))
			fault("clock_nanosleep failed");
		now = now_ns();
		if (now < next) {
			fault("timer of processor %u: %llu ns early", worker->cpu,
			      (unsigned long long)(next - now));
			now = next;
		}
		if (now - next > PATIENCE_NS)
			fault("timer of processor %u: %llu ms late", worker->cpu,
			      (unsigned long long)((now - next) / MS));
		latest = latest_ns;
		while (now - next > latest &&
		       !atomic_compare_exchange_weak(&latest_ns, &latest, now - next))
			;
		worker->done++;
		/* What was missed is not made up for. */
		if (now - next > PERIOD_NS)
			next = now;
	}
	return NULL;
}

/* A number goes around, from processor to processor, each of which sleeps. */
static __u32 box[MAX_CPUS];

static void put(unsigned int cpu, __u32 number)
{
	__atomic_store_n(&box[cpu], number, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &box[cpu], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *pass_on(void *arg)
{
	struct worker *worker = arg;
	__u32 last = 0, number;

	run_on(worker->cpu);
	while (!stopped) {
		number = __atomic_load_n(&box[worker->cpu], __ATOMIC_SEQ_CST);
		if (number == last) {
			syscall(SYS_futex, &box[worker->cpu], FUTEX_WAIT_PRIVATE, last,
				NULL, NULL, 0);
			continue;
		}
		if (number != last + 1)
			fault("processor %u: number %u came after %u", worker->cpu,
			      number, last);
		last = number;
		worker->done++;
		if (worker->cpu + 1 < nr_cpus) {
			put(worker->cpu + 1, number);
		} else {
			usleep(PAUSE_US);
			put(0, number + 1);
		}
	}
	return NULL;
}

/* Each of these waits until all processors that run the program have heard of it. */
static void *tell_all(void *arg)
{
	struct worker *worker = arg;
	size_t size = getpagesize();
	char *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED ||
	    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		fault("cannot interrupt other processors: %s", strerror(errno));
	while (!stopped) {
		page[0]++;
		if (mprotect(page, size, PROT_READ) ||
		    mprotect(page, size, PROT_READ | PROT_WRITE) ||
		    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
			fault("cannot interrupt other processors: %s", strerror(errno));
		worker->done++;
		usleep(PAUSE_US);
	}
	return NULL;
}

/* False if @block of the disk does not hold what was written last. */
static bool check_block(int fd, void *buffer, unsigned int block)
{
	static char expected[CLUSTER];

	if (pread(fd, buffer, CLUSTER, (off_t)block * CLUSTER) != CLUSTER) {
		fault("disk: cannot read block %u: %s", block, strerror(errno));
		return false;
	}
	fill(expected, CLUSTER, block, generation[block]);
	if (generation[block] && memcmp(buffer, expected, CLUSTER)) {
		fault("disk: block %u is not what was written", block);
		return false;
	}
	return true;
}

/* Past the page cache, so that each access is an interrupt. */
static int open_disk(void **buffer)
{
	int fd = open(DISK, O_RDWR | O_DIRECT);

	if (fd < 0 || posix_memalign(buffer, 4096, CLUSTER))
		fault("disk: cannot open it: %s", strerror(errno));
	return fd;
}

static void *use_disk(void *arg)
{
	struct worker *worker = arg;
	unsigned int seed = 1;
	void *buffer;
	int fd = open_disk(&buffer);

	while (!stopped && fd >= 0) {
		unsigned int block = rand_r(&seed) % NR_BLOCKS;

		/* Each processor has a queue of its own. */
		run_on(worker->done % nr_cpus);
		fill(buffer, CLUSTER, block, ++generation[block]);
		if (pwrite(fd, buffer, CLUSTER, (off_t)block * CLUSTER) != CLUSTER)
			fault("disk: cannot write block %u: %s", block, strerror(errno));
		if (!check_block(fd, buffer, rand_r(&seed) % NR_BLOCKS))
			break;
		worker->done++;
		usleep(PAUSE_US);
	}
	close(fd);
	return NULL;
}

static int connect_to_server(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr = server,
		.sin_port = htons(ECHO_PORT),
	};
	__u64 give_up = now_ns() + PATIENCE_NS;
	int fd, one = 1;

	for (;;) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			break;
		close(fd);
		if (now_ns() > give_up) {
			fault("network: cannot connect: %s", strerror(errno));
			return -1;
		}
		usleep(100 * PAUSE_US);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* One connection for all of the guest's life. */
static void *use_network(void *arg)
{
	static char sent[CHUNK_SIZE], received[CHUNK_SIZE];
	struct worker *worker = arg;
	int fd = connect_to_server();

	while (!stopped && fd >= 0) {
		size_t at = 0;
		ssize_t n;

		fill(sent, sizeof(sent), 0, worker->done);
		if (send(fd, sent, sizeof(sent), MSG_NOSIGNAL) != sizeof(sent)) {
			fault("network: cannot send: %s", strerror(errno));
			break;
		}
		while (at < sizeof(received)) {
			n = recv(fd, received + at, sizeof(received) - at, 0);
			if (n <= 0)
				break;
			at += n;
		}
		if (at < sizeof(received)) {
			fault("network: the connection broke: %s", strerror(errno));
			break;
		}
		if (memcmp(sent, received, sizeof(sent))) {
			fault("network: chunk %lu came back different", worker->done);
			break;
		}
		worker->done++;
		usleep(PAUSE_US);
	}
	close(fd);
	return NULL;
}

static void start(const char *name, void *(*run)(void *), unsigned int cpu,
		  unsigned long progress)
{
	struct worker *worker = &workers[nr_workers++];

	worker->name = name;
	worker->run = run;
	worker->cpu = cpu;
	worker->progress = progress;
	if (pthread_create(&worker->thread, NULL, run, worker))
		fault("cannot create a thread");
}

static void start_workers(void)
{
	unsigned int cpu;

	for (cpu = 0; cpu < nr_cpus; cpu++) {
		start("timer", sleep_until, cpu, 5);
		start("IPI", pass_on, cpu, 5);
	}
	start("TLB shootdown", tell_all, 0, 5);
	start("disk", use_disk, 0, nr_cpus);
	start("network", use_network, 0, 3);
	put(0, 1);
}

/*
 * Checks.
 */
static bool row_has(const struct row *row, const char *line)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(row->labels) && row->labels[i]; i++) {
		if (strstr(line, row->labels[i]))
			return true;
	}
	return false;
}

static void read_interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[1024];
	unsigned int i, cpu;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		rows[i].now = 0;
	while (file && fgets(line, sizeof(line), file)) {
		char *at = strchr(line, ':');
		unsigned long sum = 0;

		if (!at)
			continue;
		at++;
		for (cpu = 0; cpu < nr_cpus; cpu++)
			sum += strtoul(at, &at, 10);
		for (i = 0; i < ARRAY_SIZE(rows); i++) {
			if (row_has(&rows[i], line))
				rows[i].now += sum;
		}
	}
	if (file)
		fclose(file);
}

/* What has not gone on yet since the check began, or NULL. */
static const char *stands_still(void)
{
	unsigned int i;

	for (i = 0; i < nr_workers; i++) {
		if (workers[i].done < workers[i].before + workers[i].progress)
			return workers[i].name;
	}
	read_interrupts();
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].now == rows[i].before && (nr_cpus > 1 || !rows[i].only_smp))
			return rows[i].name;
	}
	return NULL;
}

static void begin_check(void)
{
	unsigned int i;

	read_interrupts();
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		rows[i].before = rows[i].now;
	for (i = 0; i < nr_workers; i++)
		workers[i].before = workers[i].done;
}

static unsigned long sum_of(void *(*run)(void *))
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < nr_workers; i++) {
		if (workers[i].run == run)
			sum += workers[i].done;
	}
	return sum;
}

static void answer(const char *what)
{
	pthread_mutex_lock(&fault_lock);
	if (fault_text[0]) {
		printf("%s fail: %s\n", what, fault_text);
	} else {
		printf("%s pass up=%llu late=%llu", what, (unsigned long long)(now_ns() / MS),
		       (unsigned long long)(latest_ns / MS));
		printf(" sleeps=%lu passes=%lu disk=%lu net=%lu", sum_of(sleep_until),
		       sum_of(pass_on), sum_of(use_disk), sum_of(use_network));
		printf(" irqs=%lu/%lu/%lu/%lu\n", rows[0].now, rows[1].now, rows[2].now,
		       rows[3].now);
	}
	pthread_mutex_unlock(&fault_lock);
}

static void check(const char *what)
{
	__u64 give_up = now_ns() + PATIENCE_NS;
	const char *missing;

	begin_check();
	while ((missing = stands_still()) && !fault_text[0]) {
		if (now_ns() > give_up) {
			fault("%s stands still", missing);
			break;
		}
		usleep(10 * PAUSE_US);
	}
	answer(what);
}

static void end(void)
{
	unsigned int i, block;
	void *buffer;
	int fd;

	stopped = true;
	/* The others may wait for what nobody sends any more. */
	for (i = 0; i < nr_workers; i++) {
		if (workers[i].run == use_disk)
			pthread_join(workers[i].thread, NULL);
	}
	fd = open_disk(&buffer);
	for (block = 0; block < NR_BLOCKS && fd >= 0; block++) {
		if (!check_block(fd, buffer, block))
			break;
	}
	answer("end");
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	reboot(RB_AUTOBOOT);
}

/*
 * What an init does.
 */
static void set_address(const char *interface, const char *address)
{
	struct ifreq request = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	if (ioctl(fd, SIOCSIFADDR, &request))
		fault("cannot set the address of %s: %s", interface, strerror(errno));
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	ioctl(fd, SIOCSIFNETMASK, &request);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		fault("cannot start %s: %s", interface, strerror(errno));
	close(fd);
}

static void open_report(void)
{
	struct termios settings;
	int fd = open(REPORT, O_RDWR | O_NOCTTY);

	if (fd < 0)
		return;
	tcgetattr(fd, &settings);
	cfmakeraw(&settings);
	cfsetspeed(&settings, B115200);
	tcsetattr(fd, TCSANOW, &settings);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

int main(int argc, char **argv)
{
	char line[64];

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	open_report();
	nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (argc != 3 || inet_pton(AF_INET, argv[2], &server) != 1)
		fault("wrong arguments");
	else if (nr_cpus > MAX_CPUS || nr_cpus != strtoul(argv[1], NULL, 10))
		fault("%u processors, not %s", nr_cpus, argv[1]);
	if (!fault_text[0])
		set_address("eth0", OWN_ADDRESS);
	if (!fault_text[0])
		start_workers();
	check("check start");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\r\n")] = 0;
		if (!strncmp(line, "check ", 6))
			check(line);
		else if (!strcmp(line, "end"))
			end();
	}
	return 1;
}

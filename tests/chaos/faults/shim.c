/* Preloaded into PostgreSQL: its clock is off, and its disk slow, by what a shared file says.
 *
 * FAULTS_CONTROL names the file: two int64, the clock's offset in ns and the delay of a sync in ns. Everything here may
 * be called from a signal handler: no allocation, no locks, no look-up of symbols.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define TICK 20000000LL

static volatile const int64_t *control;

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("FAULTS_CONTROL");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (file < 0)
		return;
	void *mapped = mmap(NULL, 2 * sizeof *control, PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (mapped != MAP_FAILED)
		control = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long failed = syscall(SYS_clock_gettime, clock, now);

	if (failed == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		int64_t at = now->tv_sec * SECOND + now->tv_nsec + control[0];
		now->tv_sec = at / SECOND;
		now->tv_nsec = at % SECOND;
	}
	return (int)failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec at;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &at) != 0)
		return -1;
	now->tv_sec = at.tv_sec;
	now->tv_usec = at.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	if (now)
		*now = at.tv_sec;
	return at.tv_sec;
}

static void wait_for_the_disk(void)
{
	const struct timespec tick = {0, TICK};

	/* In ticks, so that a disk that is well again keeps nobody waiting. */
	for (int64_t waited = 0; control && waited < control[1]; waited += TICK)
		nanosleep(&tick, NULL);
}

int fsync(int file)
{
	wait_for_the_disk();
	return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
	wait_for_the_disk();
	return (int)syscall(SYS_fdatasync, file);
}

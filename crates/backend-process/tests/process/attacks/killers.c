/* A chain of processes as in `forks.c`, each of which kills every other process of its user before
 * it starts the next one: no helper of that user lives for long. It ends by itself after a minute.
 * Argument: the file for the pid of the latest. */
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
    time_t end = time(NULL) + 60;
    FILE *out;
    if (count != 2 || fork() != 0)
        return count != 2;
    setsid();
    if ((out = fopen(arguments[1], "w")) != NULL) {
        fprintf(out, "%d\n", getpid());
        fclose(out);
    }
    /* What started it goes on first. */
    usleep(300000);
    while (time(NULL) < end) {
        setsid();
        for (int round = 0; round < 4; round++) {
            kill(-1, SIGKILL);
            usleep(50);
        }
        if (fork() != 0)
            return 0;
    }
    return 0;
}

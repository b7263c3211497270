/* A chain of processes, each of which starts the next one in a session of its own and ends a
 * moment later. It ends by itself after a minute. Argument: the file for the pid of the latest. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
    time_t end = time(NULL) + 60;
    if (count != 2 || fork() != 0)
        return count != 2;
    while (time(NULL) < end) {
        FILE *out;
        setsid();
        if ((out = fopen(arguments[1], "w")) != NULL) {
            fprintf(out, "%d\n", getpid());
            fclose(out);
        }
        usleep(300);
        if (fork() != 0)
            return 0;
    }
    return 0;
}

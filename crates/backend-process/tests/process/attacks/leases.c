/* A process that holds a lease on each file that the manager reads in the exchange folder: the
 * kernel lets nobody else open them meanwhile. It has a session of its own, and tries to end the
 * runner's main process. Arguments: the exchange folder, the file for its pid, the main process. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **arguments) {
    const char *files[] = {"exit-code", "runner-installed.timestamp", "pre-job-metrics.json",
                           "post-job-metrics.json"};
    FILE *out;
    if (count != 4 || fork() != 0)
        return count != 4;
    setsid();
    signal(SIGIO, SIG_IGN);
    if (chdir(arguments[1]) != 0)
        return 1;
    for (int i = 0; i < 4; i++) {
        int file;
        unlink(files[i]);
        file = open(files[i], O_RDWR | O_CREAT, 0600);
        if (file < 0 || write(file, "0\n", 2) != 2 || fcntl(file, F_SETLEASE, F_WRLCK) != 0)
            return 1;
    }
    /* Nobody replaces them. */
    chmod(".", 0500);
    if ((out = fopen(arguments[2], "w")) == NULL)
        return 1;
    fprintf(out, "%d\n", getpid());
    fclose(out);
    kill(atoi(arguments[3]), SIGKILL);
    sleep(600);
    return 0;
}

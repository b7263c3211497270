/* A process whose first thread ends while another sleeps: the kernel shows it as a zombie. It has a
 * session of its own. Argument: the file for its pid. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *rest(void *file) {
    FILE *out = fopen(file, "w");
    fprintf(out, "%d\n", getpid());
    fclose(out);
    sleep(600);
    exit(0);
}

int main(int count, char **arguments) {
    pthread_t thread;
    if (count != 2 || fork() != 0)
        return count != 2;
    setsid();
    if (pthread_create(&thread, NULL, rest, arguments[1]) != 0)
        return 1;
    pthread_exit(NULL);
}

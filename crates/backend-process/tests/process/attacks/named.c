/* A process with a session of its own that may not be dumped, and whose name is not text.
 * Argument: the file for its pid. */
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **arguments) {
    FILE *out;
    if (count != 2 || fork() != 0)
        return count != 2;
    setsid();
    prctl(PR_SET_NAME, "a) Z 1\n\xff");
    prctl(PR_SET_DUMPABLE, 0);
    if ((out = fopen(arguments[1], "w")) == NULL)
        return 1;
    fprintf(out, "%d\n", getpid());
    fclose(out);
    sleep(600);
    return 0;
}

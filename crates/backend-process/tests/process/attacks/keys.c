/* Leaves a key in the user's own keyring, and says whether it finds one there. Argument: the file
 * for the answer. */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USER_KEYRING -4
#define SESSION_KEYRING -3
#define KEYCTL_SEARCH 10

static long search(long ring, const char *name) {
    return syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "user", name, 0);
}

int main(int count, char **arguments) {
    FILE *out;
    if (count != 2 || (out = fopen(arguments[1], "w")) == NULL)
        return 1;
    fprintf(out, "user %s\n", search(USER_KEYRING, "of-a-job") > 0 ? "found" : "none");
    fprintf(out, "session %s\n", search(SESSION_KEYRING, "of-the-manager") > 0 ? "found" : "none");
    long key = syscall(SYS_add_key, "user", "of-a-job", "secret", strlen("secret"), USER_KEYRING);
    fprintf(out, "left %s\n", key > 0 ? "one" : "none");
    fclose(out);
    return 0;
}

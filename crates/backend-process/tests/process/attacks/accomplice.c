/* Two jobs that work together. `accomplice give NAME FOLDER FILE` hands its open folder to whoever
 * listens; `accomplice take NAME FILE` takes one and fills it with files for as long as it may, at
 * most a minute. NAME is that of an abstract socket, FILE says that it has come to that. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
} control;
static char byte;
static struct iovec data = {&byte, 1};
static struct msghdr message = {
    .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};

static void say(const char *file) {
    FILE *out = fopen(file, "w");
    fprintf(out, "%d\n", getpid());
    fclose(out);
}

static void fill(int folder) {
    time_t end = time(NULL) + 60;
    char name[32];
    for (long n = 0; time(NULL) < end; n++) {
        snprintf(name, sizeof name, "of-another-%ld", n % 5000);
        mkdirat(folder, name, 0700);
        usleep(20);
    }
}

int main(int count, char **arguments) {
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    int socket_ = socket(AF_UNIX, SOCK_STREAM, 0);
    if (count < 4)
        return 1;
    strncpy(place.sun_path + 1, arguments[2], sizeof place.sun_path - 2);
    if (strcmp(arguments[1], "give") == 0) {
        int folder = open(arguments[3], O_RDONLY | O_DIRECTORY);
        fchmod(folder, 0777);
        while (connect(socket_, (struct sockaddr *)&place, sizeof place) != 0)
            usleep(10000);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &folder, sizeof folder);
        if (sendmsg(socket_, &message, 0) != 1)
            return 1;
        say(arguments[4]);
        return 0;
    }
    if (bind(socket_, (struct sockaddr *)&place, sizeof place) != 0 || listen(socket_, 1) != 0)
        return 1;
    if (fork() != 0)
        return 0;
    setsid();
    int other = accept(socket_, NULL, NULL), folder;
    if (recvmsg(other, &message, 0) != 1)
        return 1;
    memcpy(&folder, CMSG_DATA(&control.header), sizeof folder);
    say(arguments[3]);
    fill(folder);
    return 0;
}

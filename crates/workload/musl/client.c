/*
 * A client whose names are resolved by musl. Linked statically, as programs for small images are.
 *
 *   client request HOST PORT PATH AUTHORITY CANARY TIMEOUT_MS     (CANARY may be empty)
 *   client lookup NAME
 *
 * Says what `workload request` and `workload lookup` say: one line of JSON in the form of src/report.rs.
 */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* An answer and its head; an application's answers are short. */
enum { ROOM = 128 * 1024, LINE = 4096 };

static struct timespec begun;

static void text(const char *key, const char *bytes, size_t length) {
    printf(",\"%s\":\"", key);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c >= 0x80) printf("\\ufffd");
        else if (c < 0x20 || c == '"' || c == '\\') printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static void address(const struct sockaddr *of, socklen_t length, char *out, size_t room, int with_port) {
    char host[64] = "", port[8] = "0";
    getnameinfo(of, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    const char *form = !with_port ? "%s" : of->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s";
    snprintf(out, room, form, host, port);
}

/* The beginning of the line; `status` is 0 where there is none. */
static int report(const char *outcome, int status, const char *canary, const char *error) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double elapsed = (now.tv_sec - begun.tv_sec) * 1e3 + (now.tv_nsec - begun.tv_nsec) / 1e6;
    int ok = strcmp(outcome, "answered") == 0 && status < 400;
    printf("{\"ok\":%s,\"outcome\":\"%s\",\"uid\":%u", ok ? "true" : "false", outcome, (unsigned)getuid());
    printf(",\"elapsed_ms\":%.3f", elapsed);
    if (canary && *canary) text("canary", canary, strlen(canary));
    if (status) printf(",\"status\":%d", status);
    if (error) text("error", error, strlen(error));
    return ok;
}

/* Its end, and the exit status. */
static int finish(int ok) {
    puts("}");
    return ok ? 0 : 1;
}

/* Why there is no address. That no server could say is no word about the name. */
static int unresolved(int code, const char *name, const char *canary) {
    int named = code == EAI_NONAME, empty = code == EAI_NODATA;
    char error[LINE];
    snprintf(error, sizeof error, "look up %s: %s", name, gai_strerror(code));
    report(named || empty ? "no_such_name" : "failed", 0, canary, error);
    const char *rcode = named ? "NXDOMAIN" : empty ? "NOERROR" : "SERVFAIL";
    text("rcode", rcode, strlen(rcode));
    return finish(0);
}

static int lookup(const char *name) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *found;
    int code = getaddrinfo(name, NULL, &hints, &found);
    if (code) return unresolved(code, name, NULL);
    report("answered", 0, NULL, NULL);
    printf(",\"rcode\":\"NOERROR\",\"answers\":[");
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        char shown[80];
        address(a->ai_addr, a->ai_addrlen, shown, sizeof shown, 0);
        printf("%s\"%s\"", a == found ? "" : ",", shown);
    }
    printf("]");
    if (found->ai_canonname) {
        char absolute[LINE];
        int length = snprintf(absolute, sizeof absolute, "%s.", found->ai_canonname);
        text("name", absolute, (size_t)length);
    }
    return finish(1);
}

static const char *failed_to_connect(int why) {
    switch (why) {
    case ECONNREFUSED: return "refused";
    case ENETUNREACH: case EHOSTUNREACH: return "unreachable";
    case ETIMEDOUT: case EINPROGRESS: case EAGAIN: return "timeout";
    default: return "failed";
    }
}

/* The value of a header, or nothing. */
static const char *header(const char *head, const char *end, const char *name, size_t *length) {
    size_t wanted = strlen(name);
    for (const char *line = head; line && line < end; line = strstr(line, "\r\n"), line = line ? line + 2 : line) {
        if (strncasecmp(line, name, wanted) || line[wanted] != ':') continue;
        const char *value = line + wanted + 1;
        while (*value == ' ') value++;
        *length = (size_t)(strstr(value, "\r\n") - value);
        return value;
    }
    return NULL;
}

/* Whether the answer is as long as it says, or ended where it does not say. */
static int whole(const char *answer, size_t length, int ended) {
    const char *end = strstr(answer, "\r\n\r\n");
    size_t ignored;
    if (!end) return 0;
    const char *said = header(answer, end, "content-length", &ignored);
    return said ? length - (size_t)(end + 4 - answer) >= strtoul(said, NULL, 10) : ended;
}

static int request(char **words) {
    const char *host = words[0], *port = words[1], *path = words[2], *authority = words[3], *canary = words[4];
    long patience = strtol(words[5], NULL, 10);
    struct timeval limit = {.tv_sec = patience / 1000, .tv_usec = patience % 1000 * 1000};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int code = getaddrinfo(host, port, &hints, &found);
    if (code) return unresolved(code, host, canary);

    int connected = -1, why = 0;
    char local[80] = "", peer[80] = "";
    for (struct addrinfo *a = found; a && connected < 0; a = a->ai_next) {
        int tried = socket(a->ai_family, a->ai_socktype, 0);
        setsockopt(tried, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        setsockopt(tried, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (connect(tried, a->ai_addr, a->ai_addrlen) == 0) connected = tried;
        else why = errno;
        struct sockaddr_storage own;
        socklen_t length = sizeof own;
        if (getsockname(tried, (struct sockaddr *)&own, &length) == 0)
            address((struct sockaddr *)&own, length, local, sizeof local, 1);
        address(a->ai_addr, a->ai_addrlen, peer, sizeof peer, 1);
        if (connected < 0) close(tried);
    }

    static char answer[ROOM];
    size_t length = 0;
    ssize_t count = -1;
    if (connected >= 0) {
        dprintf(connected, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", path, authority);
        if (*canary) dprintf(connected, "x-canary: %s\r\n", canary);
        dprintf(connected, "\r\n");
        while (length < ROOM - 1 && (count = read(connected, answer + length, ROOM - 1 - length)) > 0) {
            length += (size_t)count;
            if (whole(answer, length, 0)) break;
        }
        why = errno;
    }
    const char *end = strstr(answer, "\r\n\r\n");
    int complete = whole(answer, length, count == 0);
    int timed_out = count < 0 && (why == EAGAIN || why == ETIMEDOUT);
    const char *outcome = connected < 0 ? failed_to_connect(why)
                          : complete    ? "answered"
                          : timed_out   ? "timeout"
                          : length      ? "closed"
                                        : "reset";
    int status = end ? atoi(answer + strcspn(answer, " ")) : 0;
    const char *error = complete ? NULL : count == 0 ? "the other end closed the connection" : strerror(why);
    int ok = report(outcome, status, canary, error);
    if (*local) text("local", local, strlen(local));
    if (*peer) text("peer", peer, strlen(peer));
    if (complete) {
        size_t named;
        const char *instance = header(answer, end, "x-instance", &named);
        if (instance) text("instance", instance, named);
        text("body", end + 4, length - (size_t)(end + 4 - answer));
    }
    return finish(ok);
}

int main(int count, char **words) {
    clock_gettime(CLOCK_MONOTONIC, &begun);
    /* a connection that the other end closed is one outcome among others */
    signal(SIGPIPE, SIG_IGN);
    if (count == 3 && !strcmp(words[1], "lookup")) return lookup(words[2]);
    if (count == 8 && !strcmp(words[1], "request")) return request(words + 2);
    fputs("client: expected `lookup NAME` or `request HOST PORT PATH AUTHORITY CANARY TIMEOUT_MS`\n", stderr);
    return 2;
}

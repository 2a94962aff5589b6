/* What loop.c times: a client that makes pages. One file per kind of client. */
#include <stddef.h>

struct client;

/* The client number `index` to `where`; `lines` are its statements or paths. Ends the program when it fails. */
struct client *client_open(const char *where, char **lines, int count, int index);
/* Makes one page; its length in bytes. */
size_t client_page(struct client *client);

_Noreturn void fail(const char *what, const char *why);

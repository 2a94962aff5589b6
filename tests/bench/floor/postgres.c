/* The floor on PostgreSQL: every statement prepared once, then all of them pipelined on one connection. */
#include "page.h"
#include "text.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

struct client {
    PGconn *connection;
    struct text text;
    int count;
};

static const char *name_of(int query)
{
    static _Thread_local char name[16];
    snprintf(name, sizeof name, "p%d", query);
    return name;
}

struct client *client_open(const char *where, char **lines, int count, int index)
{
    struct client *client = calloc(1, sizeof *client);
    (void)index;
    client->count = count;
    client->connection = PQconnectdb(where);
    if (PQstatus(client->connection) != CONNECTION_OK)
        fail("PostgreSQL", PQerrorMessage(client->connection));
    for (int i = 0; i < count; i++) {
        PGresult *result = PQprepare(client->connection, name_of(i), lines[i], 0, NULL);
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            fail(lines[i], PQresultErrorMessage(result));
        PQclear(result);
    }
    return client;
}

static void write_result(struct text *text, PGresult *result, int query)
{
    int value = PQnfields(result) - 1;
    text_head(text, query);
    for (int row = 0; row < PQntuples(result); row++) {
        text_name(text, query);
        for (int column = 0; column < value; column++)
            text_label(text, column, PQfname(result, column), PQgetvalue(result, row, column),
                       PQgetlength(result, row, column));
        text_value(text, PQgetvalue(result, row, value), PQgetlength(result, row, value));
    }
}

/* Takes results until the one of the pipeline's end. */
static void receive(struct client *client)
{
    int query = 0;
    for (;;) {
        PGresult *result = PQgetResult(client->connection);
        ExecStatusType status = PQresultStatus(result);
        if (!result)
            continue;
        if (status == PGRES_TUPLES_OK)
            write_result(&client->text, result, query++);
        else if (status != PGRES_PIPELINE_SYNC)
            fail("PostgreSQL", PQresultErrorMessage(result));
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC)
            return;
    }
}

size_t client_page(struct client *client)
{
    client->text.length = 0;
    PQenterPipelineMode(client->connection);
    for (int i = 0; i < client->count; i++)
        PQsendQueryPrepared(client->connection, name_of(i), 0, NULL, NULL, NULL, 0);
    PQpipelineSync(client->connection);
    receive(client);
    PQexitPipelineMode(client->connection);
    return client->text.length;
}

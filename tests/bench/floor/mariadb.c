/* The floor on MariaDB: every statement prepared once, then executed one by one. WHERE is "PORT DATABASE", the
 * password stands in MYSQL_PWD. */
#include "page.h"
#include "text.h"

#include <mysql.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 8, MOST_BYTES = 256 };

struct statement {
    MYSQL_STMT *prepared;
    MYSQL_RES *names;
    MYSQL_BIND bind[MOST_COLUMNS];
    char cells[MOST_COLUMNS][MOST_BYTES];
    unsigned long lengths[MOST_COLUMNS];
    int columns;
};

struct client {
    MYSQL *connection;
    struct statement *statements;
    struct text text;
    int count;
};

static void prepare(struct statement *statement, MYSQL *connection, const char *sql)
{
    statement->prepared = mysql_stmt_init(connection);
    if (mysql_stmt_prepare(statement->prepared, sql, strlen(sql)))
        fail(sql, mysql_stmt_error(statement->prepared));
    statement->names = mysql_stmt_result_metadata(statement->prepared);
    statement->columns = mysql_stmt_field_count(statement->prepared);
    if (statement->columns > MOST_COLUMNS)
        fail(sql, "has more columns than MOST_COLUMNS");
    for (int i = 0; i < statement->columns; i++) {
        statement->bind[i].buffer_type = MYSQL_TYPE_STRING;
        statement->bind[i].buffer = statement->cells[i];
        statement->bind[i].buffer_length = MOST_BYTES;
        statement->bind[i].length = &statement->lengths[i];
    }
}

struct client *client_open(const char *where, char **lines, int count, int index)
{
    struct client *client = calloc(1, sizeof *client);
    char database[64];
    unsigned int port;
    (void)index;
    if (sscanf(where, "%u %63s", &port, database) != 2)
        fail(where, "is not PORT DATABASE");
    client->connection = mysql_init(NULL);
    if (!mysql_real_connect(client->connection, "127.0.0.1", "root", getenv("MYSQL_PWD"), database, port, NULL, 0))
        fail("MariaDB", mysql_error(client->connection));
    client->count = count;
    client->statements = calloc(count, sizeof *client->statements);
    for (int i = 0; i < count; i++)
        prepare(&client->statements[i], client->connection, lines[i]);
    return client;
}

static void write_row(struct text *text, struct statement *statement, int query)
{
    int value = statement->columns - 1;
    text_name(text, query);
    for (int i = 0; i < value; i++)
        text_label(text, i, mysql_fetch_field_direct(statement->names, i)->name, statement->cells[i],
                   statement->lengths[i]);
    text_value(text, statement->cells[value], statement->lengths[value]);
}

static void run(struct text *text, struct statement *statement, int query)
{
    MYSQL_STMT *prepared = statement->prepared;
    if (mysql_stmt_execute(prepared) || mysql_stmt_bind_result(prepared, statement->bind))
        fail("MariaDB", mysql_stmt_error(prepared));
    text_head(text, query);
    while (mysql_stmt_fetch(prepared) == 0)
        write_row(text, statement, query);
    if (mysql_stmt_errno(prepared))
        fail("MariaDB", mysql_stmt_error(prepared));
    mysql_stmt_free_result(prepared);
}

size_t client_page(struct client *client)
{
    client->text.length = 0;
    for (int i = 0; i < client->count; i++)
        run(&client->text, &client->statements[i], i);
    return client->text.length;
}

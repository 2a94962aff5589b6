#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_put(struct text *text, const char *bytes, size_t length)
{
    if (text->length + length > text->room) {
        text->room = (text->length + length) * 2 + 65536;
        text->bytes = realloc(text->bytes, text->room);
        if (!text->bytes)
            abort();
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

void text_word(struct text *text, const char *word)
{
    text_put(text, word, strlen(word));
}

void text_head(struct text *text, int query)
{
    char line[128];
    snprintf(line, sizeof line, "# HELP bench_q%02d q\n# TYPE bench_q%02d gauge\n", query, query);
    text_word(text, line);
}

void text_name(struct text *text, int query)
{
    char name[32];
    snprintf(name, sizeof name, "bench_q%02d{", query);
    text_word(text, name);
}

static void escaped(struct text *text, const char *value, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (value[i] == '"' || value[i] == '\\')
            text_put(text, "\\", 1);
        if (value[i] == '\n')
            text_put(text, "\\n", 2);
        else
            text_put(text, value + i, 1);
    }
}

void text_label(struct text *text, int column, const char *name, const char *value, size_t length)
{
    if (column)
        text_put(text, ",", 1);
    text_word(text, name);
    text_put(text, "=\"", 2);
    escaped(text, value, length);
    text_put(text, "\"", 1);
}

void text_value(struct text *text, const char *value, size_t length)
{
    text_put(text, "} ", 2);
    text_put(text, value, length);
    text_put(text, "\n", 1);
}

/* A growing buffer of exposition text. */
#include <stddef.h>

struct text {
    char *bytes;
    size_t length, room;
};

void text_put(struct text *text, const char *bytes, size_t length);
void text_word(struct text *text, const char *word);
void text_head(struct text *text, int query);
/* The beginning of a sample: its name and the opening brace. */
void text_name(struct text *text, int query);
void text_label(struct text *text, int column, const char *name, const char *value, size_t length);
void text_value(struct text *text, const char *value, size_t length);

/*
 * parse.h
 *		Text form of a vector: "[1,2.5,-3e-2]".
 *
 * Independent of the server: no postgres.h, no allocation, no errors raised.
 * A refused text is described by a status and a byte offset, from which the
 * caller words its own message.
 */
#ifndef WINNOW_PARSE_H
#define WINNOW_PARSE_H

#include <stddef.h>

typedef enum WinnowParseStatus
{
	WINNOW_PARSE_OK = 0,
	WINNOW_PARSE_EXPECTED_OPEN, /* no "[" */
	WINNOW_PARSE_EXPECTED_NUMBER,
	WINNOW_PARSE_EXPECTED_SEPARATOR,	/* neither "," nor "]" after a number */
	WINNOW_PARSE_EXPECTED_END,	/* something follows "]" */
	WINNOW_PARSE_NO_ELEMENTS,	/* "[]" */
	WINNOW_PARSE_TOO_MANY,		/* more elements than the caller has room for */
	WINNOW_PARSE_NAN,			/* spelled out */
	WINNOW_PARSE_INFINITE,		/* spelled out */
	WINNOW_PARSE_OUT_OF_RANGE	/* finite, but larger than any float */
} WinnowParseStatus;

/* What separates tokens and is otherwise ignored: that of isspace() in "C". */
#define WINNOW_PARSE_SPACE " \t\n\r\v\f"

/*
 * Reads the number at *cursor and leaves *cursor behind it. *cursor does not
 * move when the status is not OK.
 *
 * A number is a decimal literal: sign, digits, point, exponent. It becomes
 * the nearest float; what is too small to be told from zero becomes zero.
 * LC_NUMERIC must be "C", as it is in a server and in Python by default.
 */
extern WinnowParseStatus winnow_parse_number(const char **cursor, float *value);

/*
 * Reads a whole NUL-terminated text into elements[0 .. capacity - 1].
 *
 * Sets *dim to the number of elements read. On failure, *dim elements were
 * read before the fault and *offset is the byte at which it lies: the start
 * of the element for a fault of an element, else the unexpected byte, which
 * is the terminating NUL when the text ended too early.
 */
extern WinnowParseStatus winnow_parse_vector(const char *text,
											 float *elements, int capacity,
											 int *dim, size_t *offset);

#endif							/* WINNOW_PARSE_H */

/*
 * parse.c
 *		Text form of a vector: "[1,2.5,-3e-2]".
 *
 * A query vector often arrives as text, so reading one must not cost more
 * than searching for it. Hence numbers of ordinary length are converted here
 * and only the rest by strtof(), which takes several times as long.
 */
#include "core/parse.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The powers of ten that a double holds exactly. */
static const double exact_powers_of_ten[] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#define MAX_EXACT_POWER 22
#define MAX_EXACT_INTEGER (UINT64_C(1) << 53)

/* Digits that fit into a uint64 whatever they are. */
#define MAX_DIGITS 19

/*
 * Where an exponent stops being read. No text has so many digits that they
 * could make up for it, and ten times as much still fits an int64.
 */
#define MAX_EXPONENT INT64_C(100000000000)

/* A decimal literal: (-1)^negative * digits * 10^exponent. */
typedef struct Decimal
{
	bool		negative;
	bool		truncated;		/* had more digits than the integer holds */
	uint64_t	digits;
	int64_t		exponent;
} Decimal;

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline const char *
skip_space(const char *p)
{
	while (*p == ' ' || (*p >= '\t' && *p <= '\r'))
		p++;
	return p;
}

/* Does text begin with word, whatever the case? word is in lower case. */
static bool
begins_with(const char *text, const char *word)
{
	for (; *word != '\0'; text++, word++)
	{
		/* Setting this bit turns upper into lower case, in ASCII. */
		if ((*text | 0x20) != *word)
			return false;
	}
	return true;
}

/*
 * Reads digits, counting in *significant those that are not leading zeros.
 * Returns how many there were.
 */
static int64_t
scan_digits(const char **cursor, Decimal *decimal, int *significant)
{
	const char *p = *cursor;
	int64_t		count;

	for (; is_digit(*p); p++)
	{
		if (*significant == 0 && *p == '0')
			continue;
		if (*significant == MAX_DIGITS)
		{
			decimal->truncated = true;
			continue;
		}
		decimal->digits = decimal->digits * 10 + (uint64_t) (*p - '0');
		(*significant)++;
	}

	count = p - *cursor;
	*cursor = p;
	return count;
}

/* Reads "e" and its digits, if that is what *cursor points to. */
static void
scan_exponent(const char **cursor, Decimal *decimal)
{
	const char *p = *cursor;
	bool		negative = false;
	int64_t		exponent = 0;

	if (*p != 'e' && *p != 'E')
		return;
	p++;
	if (*p == '+' || *p == '-')
		negative = (*p++ == '-');
	if (!is_digit(*p))
		return;

	for (; is_digit(*p); p++)
	{
		if (exponent < MAX_EXPONENT)
			exponent = exponent * 10 + (*p - '0');
	}
	decimal->exponent += negative ? -exponent : exponent;
	*cursor = p;
}

/* Reads a decimal literal. Returns false if there is none at *cursor. */
static bool
scan_decimal(const char **cursor, Decimal *decimal)
{
	const char *p = *cursor;
	int			significant = 0;
	int64_t		count;

	memset(decimal, 0, sizeof(*decimal));
	if (*p == '+' || *p == '-')
		decimal->negative = (*p++ == '-');

	count = scan_digits(&p, decimal, &significant);
	if (*p == '.')
	{
		int64_t		fraction;

		p++;
		fraction = scan_digits(&p, decimal, &significant);
		decimal->exponent = -fraction;
		count += fraction;
	}
	if (count == 0)
		return false;

	scan_exponent(&p, decimal);
	*cursor = p;
	return true;
}

/*
 * Converts a literal whose digits and power of ten are both exact in a double.
 * One division or multiplication then gives the double nearest to the literal
 * (Clinger, "How to read floating point numbers accurately", 1990). Rounding
 * that to a float once more gives the nearest float, unless the double is the
 * midpoint of two floats: it may have been rounded onto it. Returns false then,
 * and for every other literal that it cannot convert.
 *
 * The smallest result is 1e-22 and the largest 9e37, so neither a subnormal
 * float, whose midpoints lie elsewhere, nor an infinity can occur.
 */
static bool
convert_exactly(const Decimal *decimal, float *value)
{
	double		d;
	uint64_t	bits;

	if (FLT_EVAL_METHOD != 0 || decimal->truncated ||
		decimal->digits > MAX_EXACT_INTEGER ||
		decimal->exponent < -MAX_EXACT_POWER ||
		decimal->exponent > MAX_EXACT_POWER)
		return false;

	d = (double) decimal->digits;
	if (decimal->exponent < 0)
		d /= exact_powers_of_ten[-decimal->exponent];
	else
		d *= exact_powers_of_ten[decimal->exponent];

	/* A double has 29 more bits of fraction than a float. */
	memcpy(&bits, &d, sizeof(bits));
	if ((bits & ((UINT64_C(1) << 29) - 1)) == (UINT64_C(1) << 28))
		return false;

	*value = decimal->negative ? -(float) d : (float) d;
	return true;
}

WinnowParseStatus
winnow_parse_number(const char **cursor, float *value)
{
	const char *p = *cursor;
	Decimal		decimal;

	if (!scan_decimal(&p, &decimal))
	{
		if (*p == '+' || *p == '-')
			p++;
		if (begins_with(p, "nan"))
			return WINNOW_PARSE_NAN;
		if (begins_with(p, "inf"))
			return WINNOW_PARSE_INFINITE;
		return WINNOW_PARSE_EXPECTED_NUMBER;
	}

	if (!convert_exactly(&decimal, value))
	{
		char	   *end;

		*value = strtof(*cursor, &end);

		/* Another decimal point than "." must not change the value silently. */
		if (end != p)
			return WINNOW_PARSE_EXPECTED_NUMBER;
		if (isinf(*value))
			return WINNOW_PARSE_OUT_OF_RANGE;
	}
	*cursor = p;
	return WINNOW_PARSE_OK;
}

/* Reads the elements and the closing bracket; *cursor is left at a fault. */
static WinnowParseStatus
parse_elements(const char **cursor, float *elements, int capacity, int *dim)
{
	const char *p = skip_space(*cursor);
	WinnowParseStatus status = WINNOW_PARSE_OK;

	if (*p == ']')
		status = WINNOW_PARSE_NO_ELEMENTS;

	while (status == WINNOW_PARSE_OK)
	{
		float		value;

		p = skip_space(p);
		if (*dim == capacity)
			status = WINNOW_PARSE_TOO_MANY;
		else
			status = winnow_parse_number(&p, &value);
		if (status != WINNOW_PARSE_OK)
			break;
		elements[(*dim)++] = value;

		p = skip_space(p);
		if (*p == ']')
		{
			p++;
			break;
		}
		if (*p != ',')
			status = WINNOW_PARSE_EXPECTED_SEPARATOR;
		else
			p++;
	}

	*cursor = p;
	return status;
}

WinnowParseStatus
winnow_parse_vector(const char *text, float *elements, int capacity,
					int *dim, size_t *offset)
{
	const char *p = skip_space(text);
	WinnowParseStatus status;

	*dim = 0;
	if (*p != '[')
		status = WINNOW_PARSE_EXPECTED_OPEN;
	else
	{
		p++;
		status = parse_elements(&p, elements, capacity, dim);
	}

	if (status == WINNOW_PARSE_OK)
	{
		p = skip_space(p);
		if (*p != '\0')
			status = WINNOW_PARSE_EXPECTED_END;
	}
	*offset = (size_t) (p - text);
	return status;
}

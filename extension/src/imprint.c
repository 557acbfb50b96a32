/*
 * imprint.c
 *		Which values the rows below a child have, in bits.
 *
 * A summary (attribute.c) says between what bounds a child's values are, which
 * rules out little where the column has nothing to do with the vector: any list
 * has small and large values.  An imprint has a bit for each of some cells that
 * values fall into, so that a list in which a value does not occur can be
 * passed over unless another value fell into its cell (L. Sidirourgos and
 * M. Kersten, "Column Imprints: A Secondary Index Structure", SIGMOD 2013).
 *
 * Each attribute has words of its own, but for those whose columns tell too
 * little: signatures, which are Bloom filters themselves, and codes of a byte.
 *
 *	ordered		the code, without its last "shift" bits, modulo the number of
 *				cells: a narrow range of values falls into few cells, next to
 *				one another, and values that grow for ever use the cells again
 *	hashed		two bits of one word, all of which the hash chooses
 */
#include "postgres.h"

#include "attribute.h"
#include "port/pg_bitutils.h"

/* Cells for each row of a list that is as large as a build makes it, at least; and the most there are */
#define CELLS_PER_ROW 2
#define MOST_CELLS 2048

/* Where values are dense is judged by so many parts of the values seen, each with so many of them at least */
#define PARTS 64
#define LEAST_IN_PART 4

/* Can anything be said of the attribute's values beyond its summary? */
static bool
is_imprinted(const WinnowAttr *attr)
{
	return attr->type->kind == WINNOW_COLUMN_HASHED ||
		(attr->type->kind == WINNOW_COLUMN_ORDERED && attr->type->width > 1);
}

/*
 * Lay out the imprints of an index whose lists have so many rows at most.  shifts has one
 * for each attribute.
 */
void
winnow_imprint_init(WinnowSchema *schema, int list_size, const uint8 *shifts)
{
	int			ncells = Min(pg_nextpower2_32(Max(CELLS_PER_ROW * list_size, 64)), MOST_CELLS);

	/* record.c has whole imprints on a page, beside its header and special space */
	StaticAssertStmt((INDEX_MAX_KEYS - 1) * MOST_CELLS / 8 <= BLCKSZ - 64,
					 "an imprint must fit on a page");
	schema->imprint_words = ncells / 64;
	schema->imprint_bytes = 0;
	for (int i = 0; i < schema->nattrs; i++)
	{
		WinnowAttr *attr = &schema->attrs[i];

		attr->shift = shifts[i];
		attr->imprint = -1;
		if (is_imprinted(attr))
		{
			attr->imprint = schema->imprint_bytes;
			schema->imprint_bytes += ncells / 8;
		}
	}
}

/*
 * An imprint to begin with, of a child on the given level.  Searches ask those of lists only: below an inner
 * node there are so many rows that it would be full soon, so it is from the start.
 */
void
winnow_imprint_reset(const WinnowSchema *schema, uint8 *imprint, int level)
{
	memset(imprint, level == 0 ? 0 : 0xFF, schema->imprint_bytes);
}

/* The word that a hash chooses, and the bits of it */
int
winnow_imprint_hash(const WinnowSchema *schema, uint64 hash, uint64 *mask)
{
	/* the summary's Bloom filter has the lower bits (winnow_bloom_bits) */
	*mask = (UINT64CONST(1) << ((hash >> 24) & 63)) | (UINT64CONST(1) << ((hash >> 30) & 63));
	return (int) ((hash >> 36) & (schema->imprint_words - 1));
}

/* Set bits of a word of an imprint, which need not be aligned; true when that changed it */
static bool
add_bits(uint8 *word, uint64 mask)
{
	uint64		bits;

	memcpy(&bits, word, sizeof(bits));
	if ((mask & ~bits) == 0)
		return false;
	bits |= mask;
	memcpy(word, &bits, sizeof(bits));
	return true;
}

/* Make an imprint hold for a row too; true when it had to change */
bool
winnow_imprint_add_row(const WinnowSchema *schema, uint8 *imprint, const uint8 *leaf_image)
{
	bool		changed = false;

	for (int i = 0; i < schema->nattrs; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];
		const uint8 *value = leaf_image + schema->leaf_offset[attr->leaf_col];
		uint64		mask;
		int			word;

		if (attr->imprint < 0 || (leaf_image[i / 8] & (1 << (i % 8))))
			continue;
		if (attr->type->kind == WINNOW_COLUMN_HASHED)
			word = winnow_imprint_hash(schema, (uint64) winnow_load_code(value, sizeof(int64)), &mask);
		else
		{
			uint64		cell = winnow_imprint_cell(attr, winnow_load_code(value, attr->type->width));

			word = (int) (cell / 64 & (schema->imprint_words - 1));
			mask = UINT64CONST(1) << (cell % 64);
		}
		changed |= add_bits(imprint + attr->imprint + word * sizeof(uint64), mask);
	}
	return changed;
}

/* Make an imprint hold for the rows of another too; true when it had to change */
bool
winnow_imprint_add(const WinnowSchema *schema, uint8 *imprint, const uint8 *other)
{
	bool		changed = false;

	for (int at = 0; at < schema->imprint_bytes; at += sizeof(uint64))
	{
		uint64		bits;

		memcpy(&bits, other + at, sizeof(bits));
		changed |= add_bits(imprint + at, bits);
	}
	return changed;
}

/* Does an imprint hold for all the rows of another? */
bool
winnow_imprint_covers(const WinnowSchema *schema, const uint8 *imprint, const uint8 *other)
{
	for (int at = 0; at < schema->imprint_bytes; at++)
		if (other[at] & ~imprint[at])
			return false;
	return true;
}

static int
compare_codes(const void *a, const void *b)
{
	int64		first = *(const int64 *) a;
	int64		second = *(const int64 *) b;

	return first < second ? -1 : first > second;
}

/*
 * The shift with which all values go through the cells once or twice, if they are as dense everywhere as in the
 * middle one of some parts of them.  (If they left cells unused, others would have more.)  Where there are few values,
 * that of the type.  Sorts the codes.
 */
uint8
winnow_imprint_shift(const WinnowSchema *schema, const WinnowAttr *attr, int64 *codes, int ncodes)
{
	int			ncells = schema->imprint_words * 64;
	int64		spans[PARTS];
	uint8		shift = 0;

	if (ncodes < PARTS * LEAST_IN_PART)
		return attr->type->shift;
	qsort(codes, ncodes, sizeof(int64), compare_codes);
	for (int p = 0; p < PARTS; p++)
	{
		uint64		span = (uint64) codes[(int64) (p + 1) * (ncodes - 1) / PARTS] -
			(uint64) codes[(int64) p * (ncodes - 1) / PARTS];

		spans[p] = (int64) Min(span, PG_INT64_MAX);
	}
	qsort(spans, PARTS, sizeof(int64), compare_codes);
	while ((spans[PARTS / 2] >> shift) > 2 * ncells / PARTS)
		shift++;
	return shift;
}

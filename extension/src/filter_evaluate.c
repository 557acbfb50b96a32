/*
 * filter_evaluate.c
 *		Evaluate a compiled filter over columns, and over the values of a row.
 *
 * Rows and children are tested a column at a time by the kernels, each of
 * which clears the bits of those that fail.  Nothing here allocates memory,
 * but for what the operators do in the recheck.
 */
#include "postgres.h"

#include "filter_private.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"

/* Words of a mask of as many rows as a page could possibly have */
#define MASK_WORDS	WINNOW_MASK_WORDS(BLCKSZ)

static bool
mask_empty(const uint64 *mask, int nwords)
{
	for (int i = 0; i < nwords; i++)
	{
		if (mask[i] != 0)
			return false;
	}
	return true;
}

/* Clear the rows whose code is not in low..high */
static void
test_range(const char *column, int width, int nrows, int64 low, int64 high, uint64 *mask)
{
	switch (width)
	{
		case 1:
			winnow_kernels->range_int8(column, nrows, low, high, mask);
			break;
		case 2:
			winnow_kernels->range_int16(column, nrows, low, high, mask);
			break;
		case 4:
			winnow_kernels->range_int32(column, nrows, low, high, mask);
			break;
		default:
			winnow_kernels->range_int64(column, nrows, low, high, mask);
			break;
	}
}

/* The first interval that ends at or after a code, or count */
static int
find_interval(const CodeSet *set, int64 code)
{
	int			first = 0;
	int			last = set->count;

	while (first < last)
	{
		int			middle = first + (last - first) / 2;

		if (set->items[middle].high < code)
			first = middle + 1;
		else
			last = middle;
	}
	return first;
}

/* Of n rows, those whose bit in a lookup is set */
#define LOOKUP_WORD(type) \
	for (int i = 0; i < n; i++) \
	{ \
		type		code; \
\
		memcpy(&code, column + i * sizeof(code), sizeof(code)); \
		slot = winnow_codes_slot(lookup, code); \
		found |= ((lookup->bits[slot / 64] >> (slot % 64)) & 1) << i; \
	}

static uint64
lookup_word(const CodeLookup *lookup, const char *column, int width, int n)
{
	uint64		found = 0;
	uint64		slot;

	switch (width)
	{
		case 1:
			LOOKUP_WORD(int8);
			break;
		case 2:
			LOOKUP_WORD(int16);
			break;
		case 4:
			LOOKUP_WORD(int32);
			break;
		default:
			LOOKUP_WORD(int64);
			break;
	}
	return found;
}

/* Clear the rows whose code is in none of the intervals of a set, by binary search */
static void
search_codes(const CodeSet *set, const char *column, int width, int nrows, uint64 *mask)
{
	for (int word = 0; word < WINNOW_MASK_WORDS(nrows); word++)
	{
		for (uint64 left = mask[word]; left != 0; left &= left - 1)
		{
			int			row = word * 64 + pg_rightmost_one_pos64(left);
			int64		code = winnow_load_code(column + row * width, width);
			int			next = find_interval(set, code);

			if (next == set->count || set->items[next].low > code)
				mask[word] &= ~(left & -left);
		}
	}
}

/* Clear the rows whose code is in none of a few intervals, by one pass for each */
static void
pass_codes(const CodeSet *set, const char *column, int width, int nrows, uint64 *mask)
{
	int			nwords = WINNOW_MASK_WORDS(nrows);
	uint64		passed[MASK_WORDS];
	uint64		pass[MASK_WORDS];

	memset(passed, 0, sizeof(uint64) * nwords);
	for (int i = 0; i < set->count; i++)
	{
		memcpy(pass, mask, sizeof(uint64) * nwords);
		test_range(column, width, nrows, set->items[i].low, set->items[i].high, pass);
		for (int word = 0; word < nwords; word++)
			passed[word] |= pass[word];
	}
	memcpy(mask, passed, sizeof(uint64) * nwords);
}

/* Clear the rows whose code is not in a set that has a lookup */
static void
look_up_codes(const CodeSet *set, const char *column, int width, int nrows, uint64 *mask)
{
	const CodeLookup *lookup = set->lookup;
	int			nwords = WINNOW_MASK_WORDS(nrows);
	uint64		found[MASK_WORDS];

	if (lookup->inverted)
		test_range(column, width, nrows, set->items[0].low, set->items[set->count - 1].high, mask);
	for (int word = 0; word < nwords; word++)
	{
		found[word] = 0;
		if (mask[word] != 0)
			found[word] = mask[word] & lookup_word(lookup, column + word * 64 * width, width,
												   Min(64, nrows - word * 64));
		/* what is not in a gap */
		mask[word] = lookup->inverted ? mask[word] & ~found[word] : 0;
	}
	if (!lookup->exact)
		search_codes(set, column, width, nrows, found);
	for (int word = 0; word < nwords && !(lookup->inverted && lookup->exact); word++)
		mask[word] |= found[word];
}

/* Clear the rows whose code is not in a set */
static void
test_codes(const CodeSet *set, const char *column, int width, int nrows, uint64 *mask)
{
	const CodeRange *items = set->items;

	if (set->count == 1)
		test_range(column, width, nrows, items[0].low, items[0].high, mask);
	else if (set->lookup != NULL)
		look_up_codes(set, column, width, nrows, mask);
	else if (set->count > MAX_PASSES)
	{
		test_range(column, width, nrows, items[0].low, items[set->count - 1].high, mask);
		search_codes(set, column, width, nrows, mask);
	}
	else
		pass_codes(set, column, width, nrows, mask);
}

/* Clear the children whose range of codes does not meet that of an interval */
static void
test_overlap_range(CodeRange range, const char *minima, const char *maxima, int width,
				   int nrows, uint64 *mask)
{
	test_range(minima, width, nrows, PG_INT64_MIN, range.high, mask);
	test_range(maxima, width, nrows, range.low, PG_INT64_MAX, mask);
}

/*
 * Clear the children whose range of codes does not meet a set.  Most children
 * that have a wide range meet the interval in the middle of the set; the others
 * are tested one by one.
 */
static void
test_overlap(const CodeSet *set, const char *minima, const char *maxima, int width,
			 int nrows, uint64 *mask)
{
	CodeRange	whole = {set->items[0].low, set->items[set->count - 1].high};
	int			nwords = WINNOW_MASK_WORDS(nrows);
	uint64		certain[MASK_WORDS];

	test_overlap_range(whole, minima, maxima, width, nrows, mask);
	if (set->count == 1)
		return;
	memcpy(certain, mask, sizeof(uint64) * nwords);
	test_overlap_range(set->items[set->count / 2], minima, maxima, width, nrows, certain);
	for (int word = 0; word < nwords; word++)
	{
		for (uint64 left = mask[word] & ~certain[word]; left != 0; left &= left - 1)
		{
			int			row = word * 64 + pg_rightmost_one_pos64(left);
			int64		minimum = winnow_load_code(minima + row * width, width);
			int64		maximum = winnow_load_code(maxima + row * width, width);
			int			next = find_interval(set, minimum);

			if (next == set->count || set->items[next].low > maximum)
				mask[word] &= ~(left & -left);
		}
	}
}

/* Clear the rows whose signature (or Bloom filter) has none of the needs */
static void
test_bloom(const BloomTest *test, const char *column, int nrows, uint64 *mask)
{
	int			nwords = WINNOW_MASK_WORDS(nrows);
	uint64		passed[MASK_WORDS] = {0};
	uint64		pass[MASK_WORDS];

	if (test->count == 1)
	{
		winnow_kernels->signature_all(column, nrows, test->needs[0], mask);
		return;
	}
	for (int i = 0; i < test->count; i++)
	{
		memcpy(pass, mask, sizeof(uint64) * nwords);
		winnow_kernels->signature_all(column, nrows, test->needs[i], pass);
		for (int word = 0; word < nwords; word++)
			passed[word] |= pass[word];
	}
	memcpy(mask, passed, sizeof(uint64) * nwords);
}

/*
 * Clear the rows of a leaf group that the keys on one attribute reject.  Mostly no
 * row is left when the nulls' turn comes, which then need not come from memory.
 */
static void
test_attr_rows(const AttrTest *test, const WinnowColumns *leaf, uint64 *mask)
{
	const char *nulls = leaf->base + leaf->offset[test->number / 8];
	const uint16 *offset = &leaf->offset[test->attr->leaf_col];
	int			nrows = leaf->nrows;

	if (test->hashes != NULL)
		test_codes(test->hashes, leaf->base + *offset, sizeof(int64), nrows, mask);
	if (test->attr->prefix)
		offset++;
	if (test->codes != NULL)
		test_codes(test->codes, leaf->base + *offset,
				   test->attr->prefix ? sizeof(int64) : test->attr->type->width,
				   nrows, mask);
	for (int i = 0; i < test->nsignatures; i++)
		test_bloom(&test->signatures[i], leaf->base + *offset, nrows, mask);
	if (!mask_empty(mask, WINNOW_MASK_WORDS(nrows)))
		winnow_kernels->bits_uint8((const uint8 *) nulls, nrows, 1 << (test->number % 8),
								   test->wants_null, mask);
}

/* Clear the children of an inner group under which no row passes the keys */
static void
test_attr_children(const AttrTest *test, const WinnowColumns *inner, uint64 *mask)
{
	const uint16 *offset = &inner->offset[test->attr->summary_col];
	uint8		flag = test->wants_null ? WINNOW_SUMMARY_HAS_NULL : WINNOW_SUMMARY_HAS_VALUE;
	int			nrows = inner->nrows;

	winnow_kernels->bits_uint8((const uint8 *) inner->base + *offset, nrows, flag,
							   true, mask);
	offset++;
	if (test->hash_bloom != NULL)
		test_bloom(test->hash_bloom, inner->base + *offset, nrows, mask);
	for (int i = 0; i < test->nsignatures; i++)
		test_bloom(&test->signatures[i], inner->base + *offset, nrows, mask);
	if (test->attr->prefix)
		offset++;
	if (test->codes != NULL)
		test_overlap(test->codes, inner->base + offset[0], inner->base + offset[1],
					 test->attr->prefix ? sizeof(int64) : test->attr->type->width,
					 nrows, mask);
}

/*
 * Clear the rows (of a leaf group) or children (of an inner one) that cannot
 * make a condition true
 */
static void
test_condition(const Condition *condition, const WinnowColumns *columns, bool leaf, uint64 *mask)
{
	int			nwords = WINNOW_MASK_WORDS(columns->nrows);
	uint64		left[MASK_WORDS];
	ListCell   *cell;

	check_stack_depth();
	switch (condition->kind)
	{
		case CONDITION_NEVER:
			memset(mask, 0, sizeof(uint64) * nwords);
			break;
		case CONDITION_TEST:
			if (leaf)
				test_attr_rows(&condition->test, columns, mask);
			else
				test_attr_children(&condition->test, columns, mask);
			break;
		case CONDITION_AND:
			foreach(cell, condition->parts)
			{
				if (!mask_empty(mask, nwords))
					test_condition(lfirst(cell), columns, leaf, mask);
			}
			break;
		case CONDITION_OR:
			/* what fails one part is left to the next */
			memcpy(left, mask, sizeof(uint64) * nwords);
			foreach(cell, condition->parts)
			{
				uint64		passed[MASK_WORDS];

				memcpy(passed, left, sizeof(uint64) * nwords);
				if (!mask_empty(left, nwords))
					test_condition(lfirst(cell), columns, leaf, passed);
				for (int word = 0; word < nwords; word++)
					left[word] &= ~passed[word];
			}
			for (int word = 0; word < nwords; word++)
				mask[word] &= ~left[word];
			break;
	}
}

/*
 * Clear the bits of the rows of a leaf group that cannot match.  The mask
 * comes in with the rows of interest set; WINNOW_MASK_WORDS(nrows) words.
 */
void
winnow_filter_rows(const WinnowFilter *filter, const WinnowColumns *leaf, uint64 *mask)
{
	int			nwords = WINNOW_MASK_WORDS(leaf->nrows);

	Assert(leaf->nrows <= BLCKSZ);
	if (filter->never)
		memset(mask, 0, sizeof(uint64) * nwords);
	for (int i = 0; i < filter->ntests && !mask_empty(mask, nwords); i++)
		test_attr_rows(&filter->tests[i], leaf, mask);
	if (filter->condition != NULL && !mask_empty(mask, nwords))
		test_condition(filter->condition, leaf, true, mask);
}

/* See filter.h */
int
winnow_filter_first_column(const WinnowFilter *filter)
{
	const Condition *condition = filter->condition;
	const AttrTest *test = filter->ntests > 0 ? &filter->tests[0] : NULL;

	while (test == NULL && condition != NULL)
	{
		if (condition->kind == CONDITION_TEST)
			test = &condition->test;
		condition = condition->parts != NIL ? linitial(condition->parts) : NULL;
	}
	if (test == NULL)
		return -1;
	if (test->hashes == NULL && test->codes == NULL && test->nsignatures == 0)
		return test->number / 8;
	return test->attr->leaf_col + (test->hashes == NULL && test->attr->prefix ? 1 : 0);
}

/* Set the bits of the rows in doubt under a condition that must be true */
static void
add_doubtful(const Condition *condition, const WinnowColumns *leaf, const uint64 *mask,
			 uint64 *doubtful)
{
	const AttrTest *test = &condition->test;
	int			nwords = WINNOW_MASK_WORDS(leaf->nrows);
	uint64		same[MASK_WORDS];
	ListCell   *cell;

	if (condition->kind == CONDITION_AND)
	{
		foreach(cell, condition->parts)
			add_doubtful(lfirst(cell), leaf, mask, doubtful);
	}
	else if (condition->kind == CONDITION_TEST && test->doubtful != NULL)
	{
		memcpy(same, mask, sizeof(uint64) * nwords);
		test_codes(test->doubtful, leaf->base + leaf->offset[test->attr->leaf_col], sizeof(int64),
				   leaf->nrows, same);
		for (int word = 0; word < nwords; word++)
			doubtful[word] |= same[word];
	}
}

/* See filter.h */
bool
winnow_filter_doubtful(const WinnowFilter *filter, const WinnowColumns *leaf,
					   const uint64 *mask, uint64 *doubtful)
{
	int			nwords = WINNOW_MASK_WORDS(leaf->nrows);

	memset(doubtful, 0, sizeof(uint64) * nwords);
	if (filter->condition != NULL)
		add_doubtful(filter->condition, leaf, mask, doubtful);
	return !mask_empty(doubtful, nwords);
}

/*
 * Clear the bits of the children of an inner group that no row below can make
 * match.  The mask comes in as for winnow_filter_rows.
 */
void
winnow_filter_children(const WinnowFilter *filter, const WinnowColumns *inner, uint64 *mask)
{
	int			nwords = WINNOW_MASK_WORDS(inner->nrows);

	Assert(inner->nrows <= BLCKSZ);
	if (filter->never)
		memset(mask, 0, sizeof(uint64) * nwords);
	for (int i = 0; i < filter->ntests && !mask_empty(mask, nwords); i++)
		test_attr_children(&filter->tests[i], inner, mask);
	if (filter->condition != NULL && !mask_empty(mask, nwords))
		test_condition(filter->condition, inner, false, mask);
}

/* ----------
 * Recheck
 * ----------
 */

/* The first element whose code is not below the given one, or count */
static int
find_element(const RecheckKey *key, int64 code)
{
	int			first = 0;
	int			last = key->count;

	while (first < last)
	{
		int			middle = first + (last - first) / 2;

		if (key->elements[middle].code < code)
			first = middle + 1;
		else
			last = middle;
	}
	return first;
}

static bool
recheck_key(RecheckKey *key, Datum value, bool isnull)
{
	int64		code = 0;
	int			first = 0;

	if (key->null_test)
		return isnull == key->want_null;
	if (isnull)
		return false;

	if (key->attr != NULL && key->count > 1)
	{
		code = winnow_filter_code(key->attr, value);
		first = find_element(key, code);
	}
	for (int i = first; i < key->count; i++)
	{
		if (key->attr != NULL && key->count > 1 && key->elements[i].code != code)
			break;
		if (DatumGetBool(FunctionCall2Coll(&key->function, key->collation, value,
										   key->elements[i].value)))
			return true;
	}
	return false;
}

/*
 * Does a row match the keys that its columns could not decide?  values and
 * isnull are those of the index's columns, in index order.  The operators
 * allocate in the current memory context.
 */
bool
winnow_filter_recheck(const WinnowFilter *filter, const Datum *values, const bool *isnull)
{
	if (filter->never)
		return false;
	for (int i = 0; i < filter->nrechecks; i++)
	{
		RecheckKey *key = &filter->rechecks[i];

		if (!recheck_key(key, values[key->index_attno], isnull[key->index_attno]))
			return false;
	}
	return true;
}

/*
 * filter_imprint.c
 *		What a filter asks of the imprints of children (imprint.c).
 */
#include "postgres.h"

#include "filter_private.h"
#include "miscadmin.h"

/* To ask for one of every so many cells, or more, is of no use */
#define USEFUL_PART 4

/* Hashes that are looked for, at most */
#define MOST_HASHES 16

static void
add_need(ImprintTest *test, int word, uint64 mask, bool all)
{
	test->needs[test->count++] = (ImprintNeed){(uint16) word, all, mask};
}

/* The cells of a set of some ranges of codes */
static ImprintTest *
cells_test(const WinnowSchema *schema, const WinnowAttr *attr, const CodeSet *codes)
{
	int			ncells = schema->imprint_words * 64;
	int			most = ncells / USEFUL_PART;
	uint64	   *bits = palloc0(ncells / 8);
	ImprintTest *test = NULL;
	int			ntaken = 0;

	for (int i = 0; i < codes->count; i++)
	{
		uint64		first = winnow_imprint_cell(attr, codes->items[i].low);
		uint64		last = winnow_imprint_cell(attr, codes->items[i].high);

		if (last - first >= (uint64) most)
			return NULL;
		for (uint64 cell = first; cell != last + 1; cell++)
		{
			uint64	   *word = &bits[cell / 64 & (schema->imprint_words - 1)];
			uint64		bit = UINT64CONST(1) << (cell % 64);

			ntaken += (*word & bit) == 0;
			*word |= bit;
		}
		if (ntaken > most)
			return NULL;
	}
	test = palloc0(offsetof(ImprintTest, needs) + sizeof(ImprintNeed) * schema->imprint_words);
	for (int word = 0; word < schema->imprint_words; word++)
		if (bits[word] != 0)
			add_need(test, word, bits[word], false);
	pfree(bits);
	return test;
}

/* The bits of a set of hashes */
static ImprintTest *
hashes_test(const WinnowSchema *schema, const CodeSet *hashes)
{
	ImprintTest *test = palloc0(offsetof(ImprintTest, needs) + sizeof(ImprintNeed) * MOST_HASHES);

	for (int i = 0; i < hashes->count; i++)
		for (uint64 hash = (uint64) hashes->items[i].low;; hash++)
		{
			uint64		mask;
			int			word = winnow_imprint_hash(schema, hash, &mask);

			if (test->count == MOST_HASHES)
				return NULL;
			add_need(test, word, mask, true);
			if (hash == (uint64) hashes->items[i].high)
				break;
		}
	return test;
}

/*
 * A single range, which may well have no end: only where the values of a child begin, or end, tells
 * what cells are asked for
 */
static ImprintTest *
range_test(const CodeRange *range)
{
	ImprintTest *test = palloc0(sizeof(ImprintTest));

	test->range = range;
	return test;
}

/* What a test of columns asks of imprints; NULL: nothing that would rule out many */
void
winnow_test_imprint(const WinnowSchema *schema, AttrTest *test)
{
	const WinnowAttr *attr = test->attr;

	test->imprint = NULL;
	if (attr->imprint < 0)
		return;
	if (attr->type->kind == WINNOW_COLUMN_HASHED)
		test->imprint = test->hashes == NULL ? NULL : hashes_test(schema, test->hashes);
	else if (test->codes != NULL && test->codes->count == 1)
		test->imprint = range_test(&test->codes->items[0]);
	else
		test->imprint = test->codes == NULL ? NULL : cells_test(schema, attr, test->codes);
}

static bool
condition_asks(const Condition *condition)
{
	ListCell   *cell;

	check_stack_depth();
	if (condition->kind == CONDITION_TEST)
		return condition->test.imprint != NULL;
	foreach(cell, condition->parts)
	{
		bool		asks = condition_asks(lfirst(cell));

		/* of those joined by OR, each must */
		if (asks != (condition->kind == CONDITION_OR))
			return asks;
	}
	return condition->kind == CONDITION_OR;
}

/* See filter.h */
bool
winnow_filter_asks_imprints(const WinnowFilter *filter)
{
	for (int i = 0; i < filter->ntests; i++)
		if (filter->tests[i].imprint != NULL)
			return true;
	return filter->condition != NULL && condition_asks(filter->condition);
}

/* Has the imprint of the child in a slot a cell of a range? */
static bool
range_passes(const WinnowSchema *schema, const AttrTest *test, const WinnowColumns *inner, int slot,
			 const uint8 *imprint)
{
	const WinnowAttr *attr = test->attr;
	const uint16 *bounds = &inner->offset[attr->summary_col + 1];
	int			width = attr->type->width;
	int64		low = winnow_load_code(inner->base + bounds[0] + slot * width, width);
	int64		high = winnow_load_code(inner->base + bounds[1] + slot * width, width);
	uint64		ncells = (uint64) schema->imprint_words * 64;
	uint64		span;
	uint64		first;
	uint64		last;

	low = Max(low, test->imprint->range->low);
	high = Min(high, test->imprint->range->high);
	if (low > high)
		return false;
	span = winnow_imprint_cell(attr, high) - winnow_imprint_cell(attr, low);
	if (span >= ncells / USEFUL_PART)
		return true;
	/* the cells of codes below 0 have the largest numbers */
	first = winnow_imprint_cell(attr, low) % ncells;
	last = first + span;
	for (uint64 word = first / 64; word <= last / 64; word++)
	{
		uint64		mask = ~UINT64CONST(0);
		uint64		bits;

		if (word == first / 64)
			mask <<= first % 64;
		if (word == last / 64)
			mask &= ~UINT64CONST(0) >> (63 - last % 64);
		memcpy(&bits, imprint + attr->imprint + (word & (schema->imprint_words - 1)) * sizeof(bits),
			   sizeof(bits));
		if (bits & mask)
			return true;
	}
	return false;
}

static bool
test_passes(const WinnowSchema *schema, const AttrTest *test, const WinnowColumns *inner, int slot,
			const uint8 *imprint)
{
	const ImprintTest *asked = test->imprint;

	if (asked == NULL)
		return true;
	if (asked->range != NULL)
		return range_passes(schema, test, inner, slot, imprint);
	for (int i = 0; i < asked->count; i++)
	{
		const ImprintNeed *need = &asked->needs[i];
		uint64		bits;

		memcpy(&bits, imprint + test->attr->imprint + need->word * sizeof(bits), sizeof(bits));
		bits &= need->mask;
		if (need->all ? bits == need->mask : bits != 0)
			return true;
	}
	return false;
}

static bool
condition_passes(const WinnowSchema *schema, const Condition *condition,
				 const WinnowColumns *inner, int slot, const uint8 *imprint)
{
	ListCell   *cell;

	if (condition->kind == CONDITION_TEST)
		return test_passes(schema, &condition->test, inner, slot, imprint);
	foreach(cell, condition->parts)
	{
		bool		passes = condition_passes(schema, lfirst(cell), inner, slot, imprint);

		if (passes == (condition->kind == CONDITION_OR))
			return passes;
	}
	return condition->kind == CONDITION_AND;
}

/* See filter.h */
bool
winnow_filter_imprint(const WinnowFilter *filter, const WinnowColumns *inner, int slot,
					  const uint8 *imprint)
{
	for (int i = 0; i < filter->ntests; i++)
		if (!test_passes(filter->schema, &filter->tests[i], inner, slot, imprint))
			return false;
	return filter->condition == NULL ||
		condition_passes(filter->schema, filter->condition, inner, slot, imprint);
}

/* Ask for what winnow_filter_imprint will look at first */
void
winnow_filter_imprint_ahead(const WinnowFilter *filter, const uint8 *imprint)
{
	for (int i = 0; i < filter->ntests; i++)
	{
		const AttrTest *test = &filter->tests[i];
		int			word = 0;

		if (test->imprint == NULL)
			continue;
		if (test->imprint->range != NULL)
			word = winnow_imprint_cell(test->attr, test->imprint->range->low) / 64 &
				(filter->schema->imprint_words - 1);
		else if (test->imprint->count > 0)
			word = test->imprint->needs[0].word;
		__builtin_prefetch(imprint + test->attr->imprint + word * sizeof(uint64));
	}
}

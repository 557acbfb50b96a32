/*
 * code_set.c
 *		Sets of column codes.
 */
#include "postgres.h"

#include "compat.h"
#include "filter_private.h"

/*
 * A lookup has a bit for each code of the set's span if that takes at most so
 * many bits, or so many for each interval.  Otherwise it has so many bits for
 * each code of the set, which is how rarely a hash is taken for another's, if
 * the intervals have at most so many codes on average.
 */
#define MAX_DENSE_BITS			65536
#define DENSE_BITS_PER_RANGE	64
#define HASHED_BITS_PER_CODE	16
#define MAX_CODES_PER_RANGE		4

/* Knuth's multiplicative hash: the upper bits of the product */
#define HASH_FACTOR UINT64CONST(0x9E3779B97F4A7C15)

/* Add the codes low..high, which may be none */
void
winnow_codes_add(CodeRangeList *list, int64 low, int64 high)
{
	if (low > high)
		return;
	if (list->count == list->capacity)
	{
		list->capacity = Max(4, list->capacity * 2);
		if (list->items == NULL)
			list->items = palloc_array(CodeRange, list->capacity);
		else
			list->items = repalloc_array(list->items, CodeRange, list->capacity);
	}
	list->items[list->count++] = (CodeRange){.low = low, .high = high};
}

static int
compare_intervals(const void *a, const void *b)
{
	int64		first = ((const CodeRange *) a)->low;
	int64		second = ((const CodeRange *) b)->low;

	return first < second ? -1 : first > second;
}

/* Sort the intervals of a list, and join those that overlap or touch */
CodeSet *
winnow_codes_set(CodeRangeList *list)
{
	CodeSet	   *set = palloc0_object(CodeSet);

	set->items = list->items;
	if (list->count > 1)
		qsort(list->items, list->count, sizeof(CodeRange), compare_intervals);

	for (int i = 0; i < list->count; i++)
	{
		CodeRange	next = list->items[i];
		CodeRange  *last = set->count > 0 ? &set->items[set->count - 1] : NULL;

		if (last != NULL && (last->high == PG_INT64_MAX || next.low <= last->high + 1))
			last->high = Max(last->high, next.high);
		else
			set->items[set->count++] = next;
	}
	return set;
}

/* The codes in both sets; a NULL set holds all codes */
CodeSet *
winnow_codes_intersect(CodeSet *a, CodeSet *b)
{
	CodeRangeList list = {0};

	if (a == NULL || b == NULL)
		return a == NULL ? b : a;

	for (int i = 0, j = 0; i < a->count && j < b->count;)
	{
		winnow_codes_add(&list, Max(a->items[i].low, b->items[j].low),
						 Min(a->items[i].high, b->items[j].high));
		if (a->items[i].high < b->items[j].high)
			i++;
		else
			j++;
	}
	return winnow_codes_set(&list);
}

/* The codes that are not in a set */
CodeSet *
winnow_codes_complement(const CodeSet *set)
{
	CodeRangeList list = {0};
	int64		next = PG_INT64_MIN;	/* after the last interval */

	for (int i = 0; i < set->count; i++)
	{
		if (set->items[i].low > next)
			winnow_codes_add(&list, next, set->items[i].low - 1);
		if (set->items[i].high == PG_INT64_MAX)
			return winnow_codes_set(&list);
		next = set->items[i].high + 1;
	}
	winnow_codes_add(&list, next, PG_INT64_MAX);
	return winnow_codes_set(&list);
}

/* Set the bits first..last */
static void
set_bits(uint64 *bits, uint64 first, uint64 last)
{
	while (first <= last)
	{
		if (first % 64 == 0 && last - first >= 63)
		{
			bits[first / 64] = ~UINT64CONST(0);
			first += 64;
		}
		else
		{
			bits[first / 64] |= UINT64CONST(1) << (first % 64);
			first++;
		}
	}
}

/* A bit for each code of the span of some intervals */
static CodeLookup *
dense_lookup(const CodeRange *items, int count)
{
	CodeLookup *lookup = palloc0_object(CodeLookup);

	lookup->exact = true;
	lookup->low = (uint64) items[0].low;
	lookup->factor = 1;
	/* the last bit stands for all codes outside */
	lookup->last = (uint64) items[count - 1].high - lookup->low + 1;
	lookup->bits = palloc0(sizeof(uint64) * (lookup->last / 64 + 1));
	for (int i = 0; i < count; i++)
		set_bits(lookup->bits, items[i].low - lookup->low, items[i].high - lookup->low);
	return lookup;
}

/* A bit for the hash of each code of some intervals, ncodes in all */
static CodeLookup *
hashed_lookup(const CodeRange *items, int count, uint64 ncodes)
{
	CodeLookup *lookup = palloc0_object(CodeLookup);
	uint64		nbits = 64;

	lookup->factor = HASH_FACTOR;
	lookup->shift = 64 - 6;
	while (nbits < ncodes * HASHED_BITS_PER_CODE)
	{
		nbits *= 2;
		lookup->shift--;
	}
	lookup->last = nbits - 1;
	lookup->bits = palloc0(sizeof(uint64) * (nbits / 64));
	for (int i = 0; i < count; i++)
	{
		for (int64 code = items[i].low;; code++)
		{
			uint64		slot = winnow_codes_slot(lookup, code);

			set_bits(lookup->bits, slot, slot);
			if (code == items[i].high)
				break;
		}
	}
	return lookup;
}

/* A lookup for some intervals; NULL if it would have to be large */
static CodeLookup *
lookup_of(const CodeRange *items, int count)
{
	uint64		span = (uint64) items[count - 1].high - (uint64) items[0].low;
	uint64		most = (uint64) count * MAX_CODES_PER_RANGE;
	uint64		ncodes = count;

	if (span < Max(MAX_DENSE_BITS, (uint64) count * DENSE_BITS_PER_RANGE))
		return dense_lookup(items, count);
	for (int i = 0; i < count; i++)
	{
		uint64		more = (uint64) items[i].high - (uint64) items[i].low;

		if (more > most - ncodes)
			return NULL;
		ncodes += more;
	}
	return hashed_lookup(items, count, ncodes);
}

/*
 * A lookup for a set of several intervals, or for the gaps between them; NULL if
 * it would have to be large.
 */
CodeLookup *
winnow_codes_lookup(const CodeSet *set)
{
	CodeLookup *lookup = lookup_of(set->items, set->count);
	CodeRange  *gaps;

	if (lookup != NULL)
		return lookup;
	gaps = palloc_array(CodeRange, set->count - 1);
	for (int i = 0; i < set->count - 1; i++)
		gaps[i] = (CodeRange){set->items[i].high + 1, set->items[i + 1].low - 1};
	lookup = lookup_of(gaps, set->count - 1);
	if (lookup != NULL)
		lookup->inverted = true;
	pfree(gaps);
	return lookup;
}

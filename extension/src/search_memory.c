/*
 * search_memory.c
 *		Memory that one search leaves to the next.
 *
 * The arrays of a search take some hundred kilobytes.  If each search got them
 * from the operating system and gave them back, a tenth of its time would go
 * into page faults.  So a backend keeps those of a search that has ended, but for
 * arrays that have become large: a few megabytes at most.  A search that begins while another is under way has
 * its own.
 */
#include "postgres.h"

#include "search_private.h"

#include "utils/memutils.h"

/* Items that an array has room for to begin with, and the most bytes that are kept of one */
#define FIRST_ITEMS		256
#define MOST_BYTES		(512 * 1024)

/* What all of them are (heap.h) */
typedef struct Array
{
	Size		count;
	Size		allocated;
	void	   *items;
} Array;

#define ARRAYS 11

typedef struct ArrayOf
{
	Array	   *array;
	Size		size;			/* of an item */
} ArrayOf;

static Array kept[ARRAYS];
static MemoryContext kept_context;
static bool lent;

static void
arrays_of(WinnowSearch *search, ArrayOf *arrays)
{
	int			n = 0;

#define ADD_ARRAY(array) arrays[n++] = (ArrayOf){(Array *) &(array), sizeof(*(array).items)}
	StaticAssertStmt(sizeof(Array) == sizeof(scores_heap), "arrays and heaps look like this");
	ADD_ARRAY(search->queue.items);
	ADD_ARRAY(search->queue.inner);
	ADD_ARRAY(search->queue.lists);
	ADD_ARRAY(search->rest);
	ADD_ARRAY(search->active);
	ADD_ARRAY(search->pool);
	ADD_ARRAY(search->left);
	ADD_ARRAY(search->taken);
	ADD_ARRAY(search->results);
	ADD_ARRAY(search->best);
	ADD_ARRAY(search->recall.probed);
#undef ADD_ARRAY
	Assert(n == ARRAYS);
}

/* The context of the search is reset: its arrays are for the next one */
static void
take_back(void *arg)
{
	ArrayOf		arrays[ARRAYS];

	arrays_of(arg, arrays);
	for (int i = 0; i < ARRAYS; i++)
	{
		kept[i] = *arrays[i].array;
		kept[i].count = 0;
		if (kept[i].allocated * arrays[i].size > MOST_BYTES)
		{
			pfree(kept[i].items);
			kept[i] = (Array){0};
		}
	}
	lent = false;
}

/* Let a search that begins, in the current context, have the arrays that are kept */
void
winnow_search_borrow(WinnowSearch *search)
{
	MemoryContextCallback *callback;
	ArrayOf		arrays[ARRAYS];

	if (lent)
		return;
	if (kept_context == NULL)
		kept_context = AllocSetContextCreate(TopMemoryContext, "winnow search arrays",
											 ALLOCSET_DEFAULT_SIZES);
	arrays_of(search, arrays);
	for (int i = 0; i < ARRAYS; i++)
		if (kept[i].items == NULL)
		{
			kept[i].items = MemoryContextAlloc(kept_context, arrays[i].size * FIRST_ITEMS);
			kept[i].allocated = FIRST_ITEMS;
		}
	callback = palloc(sizeof(MemoryContextCallback));
	callback->func = take_back;
	callback->arg = search;
	for (int i = 0; i < ARRAYS; i++)
		*arrays[i].array = kept[i];
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	lent = true;
}

/*
 * search_all.c
 *		Rank all rows that match.
 *
 * Where all rows that match are wanted, or most of them, there is no point in
 * looking for the best lists first, nor in estimates: the places of all rows
 * that pass the filter are collected, the rows are fetched in the order of the
 * table, and sorted.  The data pages of the index are not read, but for those of lists
 * that a search has read before and comes back to (winnow_search_collect).
 *
 * That is so for queries without LIMIT (limit.c tells), and where LIMIT is
 * larger than the number of rows that match.  The search then has begun as
 * usual, and goes on this way once it has an idea of how many there are.
 */
#include "postgres.h"

#include "search_private.h"

#include "miscadmin.h"

/*
 * An estimate may be wrong: give up when so many times the rows wanted, and so
 * many, turn out to match.
 */
#define ALL_EXCESS	4
#define ALL_ROWS	256

#define ST_SORT sort_nodes
#define ST_ELEMENT_TYPE WinnowQueueItem
#define ST_COMPARE(a, b) ((a)->block < (b)->block ? -1 : (a)->block > (b)->block)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

#define ST_SORT sort_candidates
#define ST_ELEMENT_TYPE Candidate
#define ST_COMPARE(a, b) ((a)->id < (b)->id ? -1 : (a)->id > (b)->id)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Best last */
static inline int
compare_results(const Found *a, const Found *b)
{
	if (result_before(a, b))
		return 1;
	return result_before(b, a) ? -1 : 0;
}

#define ST_SORT sort_results
#define ST_ELEMENT_TYPE Found
#define ST_COMPARE(a, b) compare_results(a, b)
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* Does it pay to rank all rows that match, as far as can be told? */
bool
winnow_all_pays(const WinnowSearch *search)
{
	double		accepted = winnow_search_accepted(search);
	double		unread = Max(search->recall.unread, 0);
	double		expected;

	/* of rows fetched for nothing the planner's estimate is the better witness */
	double		planned = search->nrejected > 0 ? search->expected : 0;

	if (search->goal == WINNOW_WANTED_ALL)
		return true;
	if (search->nprobed < WINNOW_FIRST_LOOK)
		return false;
	expected = unread * winnow_recall_pass_rate(search->recall.passed * accepted,
												search->recall.tested, planned, unread);
	expected += (search->active.count + search->pool.count + search->nleft - search->ndoubtful) * accepted;
	return search->goal - search->nfound > WINNOW_ALL_SHARE * expected;
}

/* How gathering ended */
typedef enum Gathered
{
	GATHERED_ALL,
	GATHERED_TOO_MANY,
	GATHERED_PAGE_GONE
} Gathered;

/* The nodes not yet read, with all below them, into "rest"; false if a page is gone */
static bool
gather_nodes(WinnowSearch *search)
{
	winnow_items_array *rest = &search->rest;
	bool		whole = true;

	rest->count = 0;
	for (Size i = 0; i < search->queue.items.count; i++)
		if (search->queue.items.items[i].unread)
			winnow_items_add(rest, search->queue.items.items[i]);

	search->gathering = true;
	for (Size i = 0; i < rest->count && whole; i++)
	{
		WinnowQueueItem node = rest->items[i];

		if (node.level > 0)
		{
			whole = winnow_search_expand(search, &node);
			WINNOW_WAIT_POINT("scan-expanded");
		}
	}
	search->gathering = false;
	sort_nodes(rest->items, rest->count);
	return whole;
}

/*
 * Add all rows that pass the filter, of lists not yet read, to the pool, unless
 * it comes to have more than "most".  The queue stays as it was.
 */
static Gathered
gather(WinnowSearch *search, Size most)
{
	winnow_items_array *rest = &search->rest;

	if (!gather_nodes(search))
		return GATHERED_PAGE_GONE;
	for (Size i = 0; i < rest->count; i++)
	{
		int			passed;

		CHECK_FOR_INTERRUPTS();
		if (rest->items[i].level > 0)
			continue;
		if (search->pool.count > most)
			return GATHERED_TOO_MANY;
		if (i + 1 < rest->count)
			winnow_search_prefetch(search, &rest->items[i + 1]);
		passed = winnow_search_read_list(search, rest->items[i].block, rest->items[i].asof, false);
		if (passed < 0)
			return GATHERED_PAGE_GONE;
		WINNOW_WAIT_POINT("scan-tested");
		winnow_search_count_list(search, passed);
		for (int g = 0; g < search->ngroups; g++)
		{
			const WinnowView *view = search->groups[g];

			for (int j = 0; j < view->nselected; j++)
				candidates_add(&search->pool, (Candidate){-INFINITY, 0, view->ids[j], WINNOW_NO_PLACE});
		}
	}
	return GATHERED_ALL;
}

/* As many rows in the pool as are worth fetching, if so many are there already */
static Size
most_rows(const WinnowSearch *search, Size pooled)
{
	int64		lacking = search->goal - search->nfound;

	if (search->goal == WINNOW_WANTED_ALL || lacking > PG_UINT32_MAX)
		return SIZE_MAX;
	return pooled + (Size) Min(Max(ALL_EXCESS * lacking / winnow_search_accepted(search), ALL_ROWS),
							   PG_UINT32_MAX);
}

/*
 * Rank all rows that match, fetching them in the order of the table.  Returns
 * false if they are many more than those that are wanted: then the search has to
 * go on as it was.
 */
bool
winnow_search_all(WinnowSearch *search)
{
	for (;;)
	{
		Size		pooled;
		Size		ndoubtful;
		Gathered	gathered;

		if (!winnow_search_collect(search))
		{
			winnow_search_start_again(search);
			continue;
		}
		ndoubtful = search->ndoubtful;
		while (search->active.count > 0)
			candidates_add(&search->pool, search->active.items[--search->active.count]);
		pooled = search->pool.count;
		gathered = gather(search, most_rows(search, pooled));
		if (gathered == GATHERED_ALL)
			break;
		if (gathered == GATHERED_TOO_MANY)
		{
			search->pool.count = pooled;
			search->ndoubtful = ndoubtful;
			winnow_search_activate(search);
			return false;
		}
		winnow_search_start_again(search);
	}

	winnow_queue_clear(&search->queue);
	search->goal = WINNOW_WANTED_ALL;
	search->wanted = 0;			/* scores do not matter any more */
	search->best.count = 0;
	sort_candidates(search->pool.items, search->pool.count);
	for (Size i = 0; i < search->pool.count; i += WINNOW_ROWS_AT_ONCE)
		winnow_search_rerank(search, &search->pool.items[i],
							 (int) Min(search->pool.count - i, WINNOW_ROWS_AT_ONCE));
	search->pool.count = 0;
	sort_results(search->results.items, search->results.count);
	search->sorted = true;
	return true;
}

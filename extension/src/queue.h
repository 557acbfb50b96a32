/*
 * queue.h
 *		The nodes that a search knows of and has not read, best first.
 *
 * A search meets thousands of nodes for each hundred that it reads, so a node is
 * put down once, where it stays, and what is kept in order are pairs of its key
 * and its place.
 */
#ifndef WINNOW_QUEUE_H
#define WINNOW_QUEUE_H

#include "winnow.h"

#include "heap.h"

#include <math.h>

/*
 * The ratios of winnow_queue_learn: what is believed of them, as if one had been seen; how
 * many deviations above their mean another may be, and how many more when one has been seen, half of that when two
 * have, and so on; from where on one says nothing.
 */
#define USUAL_RATIO			1.2
#define USUAL_DEVIATION		0.35
#define RATIO_DEVIATIONS	1.5
#define FEW_DEVIATIONS		4
#define MOST_RATIO			20

/* Nothing is learned of nodes whose children are inner nodes: they are few, and may go so many times as far */
#define UPPER_REACH			4

/* Keys of inner nodes are made anew when they would be so much farther below the mean, or less far */
#define REACH_CHANGE		0.02

/* A node, and how the scores of the rows below are distributed */
typedef struct WinnowQueueItem
{
	float		key;			/* expected score of the best row below; an inner node's is less,
								 * see winnow_queue_learned */
	float		mean;			/* of the rows' scores */
	float		inverse_sd;		/* one over their standard deviation, the next one's part included */
	float		inverse_far_sd;	/* likewise, of the row that is the farthest from the centroid; 0: as the others */
	float		error;			/* standard deviation of the estimate of the next; 0: it is exact */
	float		centroid_score;
	float		radius2;		/* mean squared distance of the rows to the centroid */
	float		spread;			/* the centroid's squared distance to the root's */
	float		plane;			/* see winnow_recall_place; of the first nplanes items */
	float		plane_error;	/* its standard deviation */
	float		rows;
	BlockNumber block;
	XLogRecPtr	asof;			/* LSN of the page that named it, see winnow_try_read_page */
	uint32		number;			/* of a list that was read and had a row that passed */
	int16		level;
	bool		unread;
} WinnowQueueItem;

typedef struct WinnowQueueEntry
{
	float		key;
	uint32		item;
} WinnowQueueEntry;

#define winnow_entry_before(a, b) ((a)->key < (b)->key)
WINNOW_HEAP(winnow_entries, WinnowQueueEntry, winnow_entry_before)

WINNOW_ARRAY(winnow_items, WinnowQueueItem)

typedef struct WinnowQueue
{
	winnow_items_array items;	/* read or not, as they came */
	winnow_entries_heap inner;	/* the unread inner nodes */
	winnow_entries_heap lists;	/* the unread lists: first such as are a heap, ... */
	Size		nordered;		/* ... so many, then those that have come since */
	float		least;			/* no key of the latter is below this */
	Size		nplanes;		/* items whose planes are known */

	/* of inner nodes that were read: see winnow_queue_learn */
	double		reach;			/* that keys are made with */
	double		nlearned;
	double		ratio;			/* sum of the ratios */
	double		ratio2;			/* sum of their squares */
} WinnowQueue;

/*
 * How far below its mean the key of an inner node's best child may be, over what
 * winnow_recall_describe expects: further than in most of those that have been read.
 */
static inline double
winnow_queue_learned(const WinnowQueue *queue)
{
	double		ratio = queue->ratio / queue->nlearned;
	double		variance = queue->ratio2 / queue->nlearned - ratio * ratio;

	return ratio + (RATIO_DEVIATIONS + FEW_DEVIATIONS / queue->nlearned) * sqrt(Max(variance, 0));
}

static inline void
winnow_queue_clear(WinnowQueue *queue)
{
	queue->items.count = 0;
	queue->inner.count = 0;
	queue->lists.count = 0;
	queue->nordered = 0;
	queue->least = INFINITY;
	queue->nplanes = 0;
	queue->nlearned = 1;
	queue->ratio = USUAL_RATIO;
	queue->ratio2 = USUAL_RATIO * USUAL_RATIO + USUAL_DEVIATION * USUAL_DEVIATION;
	queue->reach = winnow_queue_learned(queue);
}

static inline bool
winnow_queue_empty(const WinnowQueue *queue)
{
	return queue->inner.count + queue->lists.count == 0;
}

/* A new item, to be filled in and entered; its address is good until the next one */
static inline WinnowQueueItem *
winnow_queue_item(WinnowQueue *queue)
{
	return winnow_items_extend(&queue->items);
}

/*
 * Let the rows below an inner node go so many times as far below their mean.  (What is
 * infinite, because vectors are very long, stays as it is.)
 */
static inline void
winnow_queue_extend(WinnowQueueItem *item, float times)
{
	if (!(item->mean > item->key))
		return;
	item->key = item->mean - (item->mean - item->key) * times;
	item->inverse_sd /= times;
	item->inverse_far_sd /= times;
}

/* Put the last item into the queue, by its key */
static inline void
winnow_queue_enter(WinnowQueue *queue)
{
	Size		place = queue->items.count - 1;
	WinnowQueueItem *item = &queue->items.items[place];
	WinnowQueueEntry entry = {item->key, (uint32) place};

	item->unread = true;
	if (item->level > 0)
	{
		winnow_queue_extend(item, (float) (item->level > 1 ? UPPER_REACH * queue->reach : queue->reach));
		entry.key = item->key;
		winnow_entries_push(&queue->inner, entry);
	}
	else
	{
		winnow_entries_add(&queue->lists, entry);
		queue->least = Min(queue->least, entry.key);
	}
}

/*
 * An inner node whose children are lists has been read; "least" is the least of their keys.  How far below
 * the node's mean that is, over what was expected, says how far it may be in others.
 */
static inline void
winnow_queue_learn(WinnowQueue *queue, const WinnowQueueItem *node, float least)
{
	double		ratio = queue->reach * (node->mean - least) / (node->mean - node->key);
	double		change;

	/* the root was not described; a node without extent, or without children, says nothing */
	if (!(node->mean > node->key) || !(ratio > 0 && ratio < MOST_RATIO))
		return;
	queue->nlearned++;
	queue->ratio += ratio;
	queue->ratio2 += ratio * ratio;
	change = winnow_queue_learned(queue) / queue->reach;
	if (fabs(change - 1) < REACH_CHANGE)
		return;
	queue->reach *= change;
	for (Size i = 0; i < queue->inner.count; i++)
	{
		WinnowQueueEntry *entry = &queue->inner.items[i];
		WinnowQueueItem *item = &queue->items.items[entry->item];

		winnow_queue_extend(item, (float) change);
		entry->key = item->key;
	}
	winnow_entries_order(&queue->inner);
}

/*
 * Lists come by the hundred when an inner node is read, and mostly all inner
 * nodes are before the first list is: they are put in order when a list has to
 * be chosen.
 */
static inline void
winnow_queue_settle(WinnowQueue *queue)
{
	Size		nnew = queue->lists.count - queue->nordered;

	if (nnew > queue->nordered / 8)
		winnow_entries_order(&queue->lists);
	else
		for (Size i = queue->nordered; i < queue->lists.count; i++)
			winnow_entries_sift_up(&queue->lists, i);
	queue->nordered = queue->lists.count;
	queue->least = INFINITY;
}

/* The most promising node; the queue is not empty */
static inline WinnowQueueItem *
winnow_queue_top(WinnowQueue *queue)
{
	WinnowQueueItem *items = queue->items.items;
	float		least = queue->least;

	if (queue->nordered > 0)
		least = Min(least, queue->lists.items[0].key);
	if (queue->inner.count > 0 &&
		(queue->lists.count == 0 || queue->inner.items[0].key <= least))
		return &items[queue->inner.items[0].item];
	if (queue->nordered < queue->lists.count)
		winnow_queue_settle(queue);
	return &items[queue->lists.items[0].item];
}

/* Take the most promising node out; its address is good until an item is added */
static inline WinnowQueueItem *
winnow_queue_pop(WinnowQueue *queue)
{
	WinnowQueueItem *item = winnow_queue_top(queue);

	item->unread = false;
	if (item->level > 0)
		winnow_entries_pop(&queue->inner);
	else
	{
		winnow_entries_pop(&queue->lists);
		queue->nordered--;
	}
	return item;
}

#endif							/* WINNOW_QUEUE_H */

/*
 * regroup.c
 *		The lists of an index that has grown, clustered anew.
 *
 * Splits in two, one after the other, make worse lists than clustering all rows
 * at once does: rows that came early lie in lists that they would not go to now.
 * So VACUUM, for the rows that have come since the last one, takes as many
 * neighbouring lists of an inner node as it has memory for, the oldest first,
 * clusters their rows by k-means, and replaces the inner node by one that has the
 * new lists in the place of the old ones, on pages that are free.
 * That is one switch, as in a split (replace.c).  Rows that have been added while
 * the clusters were found are looked for when the inner node is locked, which
 * keeps insertions out.
 */
#include "postgres.h"

#include "fetch.h"

#include <math.h>

#include "commands/vacuum.h"
#include "core/kmeans.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define ITERATIONS 8

/* Fewer lists than that are not worth it */
#define LEAST_LISTS 3

/* Rows that may have been added meanwhile; while they are read inserts wait */
#define MOST_ADDED 100

/*
 * Rows clustered anew in a round are so many full lists' at most: searches and
 * insertions wait while the new lists are written
 */
#define MOST_LISTS 16

/* A list of the inner node */
typedef struct OldList
{
	BlockNumber block;
	int			rows;			/* about */
	float		distance;		/* to the list that the choice began with */
	int			centroid;		/* its place among the centroids */
	XLogRecPtr	born;
} OldList;

typedef struct Regroup
{
	Relation	rel;
	Relation	heap;
	const WinnowIndex *index;
	int			nlists;
	OldList    *lists;			/* those that are clustered come first */
	float	   *centroids;
	int			nchosen;
	WinnowHeads *copies;		/* of the chosen */
	WinnowRows	rows;			/* theirs */
	int			nparts;
	WinnowRows *parts;			/* and how they are shared out */
	int			allocated;
	double		nrows;			/* that are still to be regrouped */
	double		npages;			/* that may still be used for it */
	int			used;			/* pages of the last replacement */
	XLogRecPtr	start;			/* lists born later have been made by this */
} Regroup;

static void
regroup_tick(void *arg)
{
	winnow_vacuum_delay();
}

/* The lists of an inner node, with their centroids */
static void
read_lists(Regroup *state, BlockNumber node)
{
	int			dims = state->index->dims;
	int			most = state->index->inner.size * 2;
	WinnowView *view = winnow_view_alloc(state->index);

	state->nlists = 0;
	state->lists = palloc(sizeof(OldList) * most);
	state->centroids = palloc_extended(sizeof(float) * dims * most, MCXT_ALLOC_HUGE);
	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(state->rel, state->index, block, 1, InvalidXLogRecPtr, NULL, view);
		for (int i = 0; i < view->nselected && state->nlists < most; i++)
		{
			OldList    *old = &state->lists[state->nlists];

			winnow_vacuum_delay();
			old->block = (BlockNumber) view->ids[i];
			old->rows = Max(view->stats[i].rows, 1);
			old->centroid = state->nlists;
			winnow_node_centroid(state->rel, state->index, old->block, 0,
								 state->centroids + (Size) state->nlists++ * dims, &old->born);
		}
	}
	winnow_view_free(view);
}

static int
compare_lists(const void *a, const void *b)
{
	float		x = ((const OldList *) a)->distance;
	float		y = ((const OldList *) b)->distance;

	return x < y ? -1 : x > y;
}

/*
 * Choose the oldest list and lists near it, as many as there are memory and pages
 * for, and put them first.  Returns false if there are too few.
 */
static bool
choose_lists(Regroup *state)
{
	Size		dims = state->index->dims;

	/* a row is among all, in a cluster that is halved, and in a part */
	Size		row_bytes = 3 * (sizeof(float) * dims + state->index->leaf.image_bytes) + 64;
	int			list_size = state->index->list_size;
	double		rows_per_page = (double) list_size / winnow_node_pages(state->index, 0, list_size);
	double		room = Min(Min(maintenance_work_mem * 1024.0 / row_bytes, state->nrows),
						   (double) MOST_LISTS * list_size);
	int			oldest = 0;

	for (int i = 1; i < state->nlists; i++)
		if (state->lists[i].born < state->lists[oldest].born)
			oldest = i;
	if (state->nlists == 0 ||
		(state->lists[oldest].born >= state->start && state->start != InvalidXLogRecPtr))
		return false;
	for (int i = 0; i < state->nlists; i++)
		state->lists[i].distance =
			winnow_kernels->l2_squared(state->centroids + state->lists[oldest].centroid * dims,
									   state->centroids + state->lists[i].centroid * dims,
									   (int) dims);
	qsort(state->lists, state->nlists, sizeof(OldList), compare_lists);

	/* the inner node takes some pages too, and may get more rows than it has */
	room = Min(room, (state->npages -
					  winnow_node_pages(state->index, 1, state->index->inner.size)) *
			   rows_per_page);
	state->nchosen = 0;
	while (state->nchosen < state->nlists)
	{
		room -= state->lists[state->nchosen].rows * 1.5;
		if (room < 0)
			break;
		state->nchosen++;
	}
	return state->nchosen >= LEAST_LISTS;
}

/* One row more; its vector is the caller's to add */
static void
copy_row(Regroup *state, WinnowRows *to, const WinnowRows *from, int row)
{
	winnow_rows_add(state->index, 0, to, from->ids[row],
					from->images + (Size) row * state->index->leaf.image_bytes);
}

/*
 * Rows for one list, or more if they are too many.  Each part has room for rows
 * that may be added; the rows given are freed.
 */
static void
add_parts(Regroup *state, WinnowRows *rows)
{
	Size		dims = state->index->dims;
	WinnowRows	halves[2];
	WinnowRows *part;

	if (rows->count > state->index->list_size &&
		winnow_part_rows(state->index, 0, rows, halves) == 2)
	{
		winnow_rows_free(rows);
		for (int h = 0; h < 2; h++)
			add_parts(state, &halves[h]);
		return;
	}
	if (state->nparts == state->allocated)
	{
		state->allocated *= 2;
		state->parts = repalloc(state->parts, sizeof(WinnowRows) * state->allocated);
	}
	part = &state->parts[state->nparts++];
	winnow_rows_allocate(state->index, 0, part,
						 rows->count + MOST_ADDED + state->rows.count - state->rows.nknown);
	memcpy(part->vectors, rows->vectors, sizeof(float) * dims * rows->nknown);
	part->nknown = rows->nknown;
	for (int i = 0; i < rows->count; i++)
		copy_row(state, part, rows, i);
	winnow_rows_free(rows);
}

/* Cluster the rows of the chosen lists */
static void
cluster_rows(Regroup *state)
{
	Size		dims = state->index->dims;
	int			n = state->rows.nknown;
	int			k = Max(1, (int) ceil(n / (state->index->list_size * WINNOW_CLUSTER_FILL)));
	float	   *centroids = palloc_extended(sizeof(float) * dims * k, MCXT_ALLOC_HUGE);
	int32	   *assign = palloc_extended(sizeof(int32) * Max(n, 1), MCXT_ALLOC_HUGE);
	int		   *sizes = palloc0(sizeof(int) * k);
	void	   *scratch = palloc_extended(winnow_kmeans_scratch_bytes(Max(n, 1), (int) dims, k),
										  MCXT_ALLOC_HUGE);

	state->nparts = 0;
	state->allocated = 2 * k;
	state->parts = palloc(sizeof(WinnowRows) * state->allocated);
	if (n > 0)
		winnow_kmeans(state->rows.vectors, n, (int) dims, k, ITERATIONS, n, centroids, assign,
					  scratch, regroup_tick, NULL);
	pfree(scratch);
	pfree(centroids);
	for (int i = 0; i < n; i++)
		sizes[assign[i]]++;
	for (int c = 0; c < k; c++)
	{
		WinnowRows	cluster;

		if (sizes[c] == 0)
			continue;
		winnow_rows_allocate(state->index, 0, &cluster, sizes[c]);
		for (int i = 0; i < n; i++)
			if (assign[i] == c)
			{
				memcpy(cluster.vectors + cluster.nknown++ * dims, state->rows.vectors + i * dims,
					   sizeof(float) * dims);
				copy_row(state, &cluster, &state->rows, i);
			}
		add_parts(state, &cluster);
	}
	pfree(assign);
	pfree(sizes);
}

/* The part whose first row is nearest; what is added is little */
static WinnowRows *
nearest_part(Regroup *state, const float *vector)
{
	float		best_distance = INFINITY;
	int			best = 0;

	for (int p = 0; p < state->nparts; p++)
	{
		float		distance = winnow_kernels->l2_squared(vector, state->parts[p].vectors,
														  state->index->dims);

		if (distance < best_distance)
		{
			best_distance = distance;
			best = p;
		}
	}
	return &state->parts[best];
}

/* Rows that have been added to a list since it was copied */
static bool
find_added(Regroup *state, int list, WinnowRows *added)
{
	const WinnowLayout *layout = &state->index->leaf;
	const WinnowHeads *copy = &state->copies[list];
	BlockNumber block = state->lists[list].block;
	Buffer		first = InvalidBuffer;
	uint8	   *image = palloc(Max(layout->image_bytes, 1));
	bool		few = true;

	for (int g = 0; few && BlockNumberIsValid(block); g++)
	{
		Buffer		buffer = winnow_read_head(state->index, state->rel, block, 0,
											  BUFFER_LOCK_SHARE);
		Page		page = BufferGetPage(buffer);

		if (g == 0)
			first = buffer;
		for (int slot = 0; few && slot < WinnowPageGetGroup(page)->nrows; slot++)
		{
			if (!winnow_is_live(layout, BufferGetPage(first), page, slot) ||
				(g < copy->ngroups &&
				 winnow_is_live(layout, copy->pages[0].data, copy->pages[g].data, slot)))
				continue;
			few = added->count < MOST_ADDED;
			if (!few)
				break;
			winnow_row_image(layout, page, slot, image);
			winnow_rows_add(state->index, 0, added, winnow_row_id(layout, page, slot), image);
		}
		block = WinnowPageGetGroup(page)->next;
		if (buffer != first)
			UnlockReleaseBuffer(buffer);
	}
	UnlockReleaseBuffer(first);
	return few;
}

/*
 * Bring the parts up to date.  Returns false if too much has been added, or anything
 * if a user's function would have to be run for it, with the inner node locked.
 */
static bool
take_added(Regroup *state)
{
	Size		dims = state->index->dims;
	WinnowFetch *fetch;
	WinnowRows	added;
	bool		few = true;

	winnow_rows_allocate(state->index, 0, &added, MOST_ADDED + 1);
	for (int l = 0; few && l < state->nchosen; l++)
		few = find_added(state, l, &added);
	if (!few || added.count == 0 || winnow_vector_computed(state->rel, state->index))
		return few && added.count == 0;
	fetch = winnow_fetch_begin(state->heap, state->rel,
								   bms_make_singleton(state->index->schema.vector_attno));
	for (int i = 0; i < added.count; i++)
	{
		bool		known = winnow_fetch_vector(fetch, state->index, added.ids[i],
												added.vectors);
		WinnowRows *part = known ? nearest_part(state, added.vectors) :
			&state->parts[i % state->nparts];

		/* rows without a vector come last */
		if (known && part->nknown < part->count)
		{
			int			last = part->count++;

			part->ids[last] = part->ids[part->nknown];
			memcpy(part->images + (Size) last * state->index->leaf.image_bytes,
				   part->images + (Size) part->nknown * state->index->leaf.image_bytes,
				   state->index->leaf.image_bytes);
			part->ids[part->nknown] = added.ids[i];
			memcpy(part->images + (Size) part->nknown * state->index->leaf.image_bytes,
				   added.images + (Size) i * state->index->leaf.image_bytes,
				   state->index->leaf.image_bytes);
		}
		else
			winnow_rows_add(state->index, 0, part, added.ids[i],
							added.images + (Size) i * state->index->leaf.image_bytes);
		if (known)
			memcpy(part->vectors + part->nknown++ * dims, added.vectors, sizeof(float) * dims);
	}
	winnow_fetch_end(fetch);
	return true;
}

/* Rows whose vectors are not known, and that no cluster has therefore */
static void
share_unknown(Regroup *state)
{
	for (int i = state->rows.nknown; i < state->rows.count; i++)
		copy_row(state, &state->parts[i % state->nparts], &state->rows, i);
}

static int
chosen_place(const Regroup *state, BlockNumber list)
{
	for (int l = 0; l < state->nlists; l++)
		if (state->lists[l].block == list)
			return l;
	return -1;
}

/*
 * The inner node as it is to be: its other lists as they are on its pages now,
 * and the new ones.  Its first head page is locked (WinnowWriteNode).
 */
static WinnowNode *
write_inner(void *arg, Buffer first, uint32 *npages)
{
	Regroup    *state = arg;
	const WinnowIndex *index = state->index;
	const WinnowLayout *layout = &index->inner;
	Size		dims = index->dims;
	WinnowNode *inner = winnow_node_alloc(index);
	WinnowNode *list = winnow_node_alloc(index);
	WinnowHeads copy = {0};
	WinnowRows	rows;
	uint8	   *image = palloc(layout->image_bytes);

	if (!take_added(state))
		return NULL;
	winnow_rows_allocate(index, 1, &rows, state->nlists + state->nparts);
	winnow_heads_copy(state->rel, index, BufferGetBlockNumber(first), 1, InvalidXLogRecPtr, first,
					  &copy);
	*npages += winnow_heads_pages(state->index, &copy);
	for (int g = 0; g < copy.ngroups; g++)
	{
		Page		page = copy.pages[g].data;

		for (int slot = 0; slot < WinnowPageGetGroup(page)->nrows; slot++)
		{
			BlockNumber block = (BlockNumber) winnow_row_id(layout, page, slot);
			int			place = chosen_place(state, block);

			if (!winnow_is_live(layout, copy.pages[0].data, page, slot))
				continue;
			if (place < 0)
				return NULL;
			if (place < state->nchosen)
				continue;
			memcpy(rows.vectors + rows.count * dims,
				   state->centroids + state->lists[place].centroid * dims, sizeof(float) * dims);
			winnow_row_image(layout, page, slot, image);
			winnow_imprint_read(state->rel, index, page, copy.blocks[g], slot, image);
			winnow_rows_add(index, 1, &rows, block, image);
		}
	}
	for (int l = 0; l < state->nchosen; l++)
		*npages += winnow_heads_pages(state->index, &state->copies[l]);
	if (rows.count + state->nparts > index->inner.size)
		return NULL;
	for (int p = 0; p < state->nparts; p++)
	{
		winnow_node_write(state->rel, MAIN_FORKNUM, index, 0, &state->parts[p], true, list);
		state->used += winnow_node_pages(index, 0, state->parts[p].count);
		memcpy(rows.vectors + rows.count * dims, list->centroid, sizeof(float) * dims);
		winnow_rows_add(index, 1, &rows, list->block, list->image);
	}
	rows.nknown = rows.count;
	winnow_node_write(state->rel, MAIN_FORKNUM, index, 1, &rows, true, inner);
	state->used += winnow_node_pages(index, 1, rows.count);
	return inner;
}

/* The lists that have been replaced are not in the tree any more */
static void
retire_chosen(Regroup *state)
{
	for (int l = 0; l < state->nchosen; l++)
	{
		Buffer		buffer = winnow_read_head(state->index, state->rel, state->lists[l].block, 0,
											  BUFFER_LOCK_EXCLUSIVE);

		winnow_retire(state->rel, buffer);
		UnlockReleaseBuffer(buffer);
	}
	state->nrows -= state->rows.count;
	state->npages -= state->used;
}

/* Rows that are dead but not vacuumed tell nothing of where they belong */
static bool
few_unknown(const WinnowRows *rows)
{
	return rows->count - rows->nknown <= rows->count / 16;
}

/*
 * One round for the inner node that the step names, or the root.  Returns whether
 * another may follow; then *node is the node as it is now.
 */
static bool
regroup_round(Regroup *state, const WinnowStep *step, BlockNumber *node)
{
	WinnowReplacement wanted = {0};
	bool		done = false;

	winnow_structure_lock(state->rel);
	if (step == NULL && winnow_read_root(state->rel, NULL) != *node)
	{
		winnow_structure_unlock(state->rel);
		return false;
	}
	read_lists(state, *node);
	if (choose_lists(state))
	{
		state->nparts = 0;
		state->used = 0;
		state->copies = palloc0(sizeof(WinnowHeads) * state->nchosen);
		for (int l = 0; l < state->nchosen; l++)
			winnow_heads_copy(state->rel, state->index, state->lists[l].block, 0,
							  InvalidXLogRecPtr, InvalidBuffer, &state->copies[l]);
		winnow_load_rows(state->rel, state->heap, state->index, state->copies, state->nchosen,
						 true, &state->rows);
		if (few_unknown(&state->rows))
			cluster_rows(state);
		wanted.rel = state->rel;
		wanted.heap = state->heap;
		wanted.index = state->index;
		wanted.nold = 1;
		wanted.old[0] = *node;
		wanted.is_root = step == NULL;
		if (step != NULL)
			wanted.steps[0] = *step;
		wanted.write = write_inner;
		wanted.write_arg = state;
		if (state->nparts > 0)
		{
			share_unknown(state);
			done = winnow_replace(&wanted);
		}
		if (done)
		{
			elog(DEBUG1, "winnow: lists clustered anew: %d become %d", state->nchosen,
				 state->nparts);
			retire_chosen(state);
			*node = wanted.new[0];
		}
	}
	winnow_structure_unlock(state->rel);
	return done;
}

/* All lists of an inner node of level 1 */
static void
regroup_node(Regroup *state, const WinnowStep *step, BlockNumber node)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow regrouping",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	WinnowStep	now;

	if (step != NULL)
		now = *step;
	while (regroup_round(state, step ? &now : NULL, &node))
	{
		if (step != NULL)
			now.child = node;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * All nodes of level 1 below a node of a higher one, starting with any of them,
 * so that each has its turn when there are pages for few
 */
static void
regroup_below(Regroup *state, BlockNumber node, int level)
{
	WinnowView *view = winnow_view_alloc(state->index);
	WinnowStep *steps = palloc(sizeof(WinnowStep) * state->index->inner.size * 2);
	int			nsteps = 0;
	int			start;

	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(state->rel, state->index, block, level, InvalidXLogRecPtr, NULL, view);
		for (int i = 0; i < view->nselected && nsteps < state->index->inner.size * 2; i++)
		{
			WinnowStep	step = {node, block, view->selected[i], (BlockNumber) view->ids[i]};

			steps[nsteps++] = step;
		}
	}
	start = nsteps > 0 ? (int) ((uint64) state->nrows % nsteps) : 0;
	for (int i = 0; i < nsteps; i++)
	{
		const WinnowStep *step = &steps[(start + i) % nsteps];

		if (level > 2)
			regroup_below(state, step->child, level - 1);
		else
			regroup_node(state, step, step->child);
	}
	pfree(steps);
	winnow_view_free(view);
}

/*
 * Cluster lists anew that have about nrows rows, using at most npages pages.
 * VACUUM calls this, and nothing is freed meanwhile.
 * Returns how many rows are left to do.
 */
double
winnow_regroup(Relation rel, Relation heap, const WinnowIndex *index, double nrows,
			   double npages)
{
	Regroup		state = {0};
	WinnowView *view = winnow_view_alloc(index);
	BlockNumber root = winnow_read_root(rel, NULL);

	state.rel = rel;
	state.heap = heap;
	state.index = index;
	state.nrows = nrows;
	state.npages = npages;
	state.start = winnow_birth(rel);
	winnow_view_read(rel, index, root, -1, InvalidXLogRecPtr, NULL, view);
	if (view->level == 1)
		regroup_node(&state, NULL, root);
	else if (view->level > 1)
		regroup_below(&state, root, view->level);
	winnow_view_free(view);
	return Max(state.nrows, 0);
}

/*
 * sample.c
 *		A sample of the rows to be indexed, taken before the table is scanned.
 *
 * Blocks are drawn one per stretch of the table, so that rows which lie
 * together in the table are all represented, and rows of these blocks by their
 * TIDs.  The sample depends on the table alone.
 */
#include "postgres.h"

#include "cluster.h"

#include <math.h>

#include "access/tableam.h"
#include "catalog/index.h"
#include "core/random.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Blocks that the number of rows is judged by */
#define COUNTED_BLOCKS 256

/* Rows of a block that are taken where there is a choice: neighbours are alike */
#define ROWS_OF_BLOCK 8

#define SALT_SAMPLE 0

typedef struct SampleState
{
	const WinnowIndex *index;
	int64		count;			/* rows that the index will have */
	double		rate;			/* rows that are taken */
	WinnowSpool *spool;			/* NULL: only count */
	WinnowSpoolRow *row;
	MemoryContext context;
} SampleState;

static void
sample_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	SampleState *state = arg;
	int			attno = state->index->schema.vector_attno;
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	if (isnull[attno])
		return;
	state->count++;
	state->row->key = winnow_tid_pack(tid);
	if (state->spool == NULL || winnow_key_draw(state->row->key, SALT_SAMPLE) >= state->rate)
		return;
	old = MemoryContextSwitchTo(state->context);
	winnow_index_vector(state->index, values[attno], state->row->vector);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->context);
	winnow_spool_add(state->spool, state->row);
}

/* Scan some blocks of the table: one of each stretch of equal length */
static void
scan_blocks(WinnowTeam *team, BlockNumber nblocks, BlockNumber nchosen, SampleState *state)
{
	/* do not wait for transactions yet; a snapshot never does */
	bool		anyvisible = !team->info->ii_Concurrent;
	uint64_t	random = 1;
	BlockNumber start = 0;
	BlockNumber count = 0;

	for (BlockNumber i = 0; i <= nchosen; i++)
	{
		BlockNumber block = nblocks;

		if (i < nchosen)
		{
			BlockNumber low = (BlockNumber) ((uint64) i * nblocks / nchosen);
			BlockNumber high = (BlockNumber) ((uint64) (i + 1) * nblocks / nchosen);

			block = low + winnow_random_below(&random, high - low);
			if (count > 0 && block == start + count)
			{
				count++;
				continue;
			}
		}
		if (count > 0)
			table_index_build_range_scan(team->heap, team->rel, team->info, false, anyvisible,
										 false, start, count, sample_row, state, NULL);
		CHECK_FOR_INTERRUPTS();
		start = block;
		count = 1;
	}
}

/*
 * Put a sample of the table's rows into the spool "sample".  Returns their
 * number, an estimate of the number of rows, and how many lists to make.
 */
int64
winnow_sample_table(WinnowTeam *team, double *nrows, int *nlists)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(team->heap);
	BlockNumber nchosen = Min(nblocks, COUNTED_BLOCKS);
	SampleState state = {0};
	int64		nsample;
	double		wanted;
	double		per_block;

	state.index = team->index;
	state.row = winnow_spool_row_alloc(0, team->index->dims);
	state.context = AllocSetContextCreate(CurrentMemoryContext, "winnow sample row",
										  ALLOCSET_DEFAULT_SIZES);
	scan_blocks(team, nblocks, nchosen, &state);
	per_block = nchosen > 0 ? (double) state.count / nchosen : 0;
	*nrows = per_block * nblocks;
	*nlists = winnow_cluster_lists(team, 0, *nrows);

	wanted = Min(*nrows, (double) WINNOW_SAMPLE_PER_LIST * *nlists);
	state.rate = 1;
	nchosen = nblocks;
	if (wanted < *nrows)
	{
		nchosen = (BlockNumber) Min(nblocks, ceil(wanted / Min(per_block, ROWS_OF_BLOCK)));
		state.rate = Min(1, wanted / (nchosen * per_block));
	}
	state.spool = winnow_spool_create(&team->files, "sample", 0, 0, team->index->dims);
	if (*nrows > 0)
		scan_blocks(team, nblocks, nchosen, &state);
	nsample = winnow_spool_count(state.spool);
	winnow_spool_close(state.spool);
	winnow_spool_row_free(state.row);
	MemoryContextDelete(state.context);
	return nsample;
}

/*
 * The same for the rows of an inner level: the nodes of the level below, of
 * which there are nrows.
 */
int64
winnow_sample_nodes(WinnowTeam *team, int level, int64 nrows, int *nlists)
{
	int			image_bytes = team->index->inner.image_bytes;
	WinnowSpoolRow *row = winnow_spool_row_alloc(image_bytes, team->index->dims);
	WinnowSpool *sample = winnow_spool_create(&team->files, "sample", 0, 0, team->index->dims);
	double		rate;
	int64		nsample;

	*nlists = winnow_cluster_lists(team, level, (double) nrows);
	rate = (double) WINNOW_SAMPLE_PER_LIST * *nlists / nrows;
	for (int part = 0; part < team->shared->nparts; part++)
	{
		WinnowSpool *nodes = winnow_nodes_open(team, level - 1, part);

		CHECK_FOR_INTERRUPTS();
		while (winnow_spool_next(nodes, row))
			if (rate >= 1 || winnow_key_draw(row->key, SALT_SAMPLE) < rate)
				winnow_spool_add(sample, row);
		winnow_spool_close(nodes);
	}
	nsample = winnow_spool_count(sample);
	winnow_spool_close(sample);
	winnow_spool_row_free(row);
	return nsample;
}

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
#include "miscadmin.h"
#include "utils/memutils.h"

/* Blocks that the number of rows is judged by */
#define COUNTED_BLOCKS 256

/* Rows of a block that are taken where there is a choice: neighbours are alike */
#define ROWS_OF_BLOCK 8

/* Codes of each ordered attribute by which it is judged where its values are dense, and of a block */
#define MOST_CODES 4096
#define CODES_OF_BLOCK (MOST_CODES / COUNTED_BLOCKS)

/* Stretches of the table that are worth a task, and tasks at most */
#define STRETCHES 32
#define MOST_TASKS 64

typedef struct SampleState
{
	const WinnowIndex *index;
	int64		count;			/* rows that the index will have */
	WinnowSpool *spool;			/* NULL: only count, and keep codes */
	double		rate;			/* rows that are taken */
	WinnowSpoolRow *row;
	MemoryContext context;

	/* when counting */
	int64	   *codes[INDEX_MAX_KEYS];	/* of the ordered attributes' values; NULL: of another's */
	int			ncodes[INDEX_MAX_KEYS];
	BlockNumber block;			/* of the row before, and rows of it up to that */
	int			nof_block;
} SampleState;

static void
begin_sample(const WinnowTeam *team, WinnowSpool *spool, double rate, SampleState *state)
{
	memset(state, 0, sizeof(*state));
	state->index = team->index;
	state->block = InvalidBlockNumber;
	state->spool = spool;
	state->rate = rate;
	state->row = winnow_spool_row_alloc(0, team->index->dims);
	state->context = AllocSetContextCreate(CurrentMemoryContext, "winnow sample row",
										   ALLOCSET_DEFAULT_SIZES);
}

static void
end_sample(SampleState *state)
{
	winnow_spool_row_free(state->row);
	MemoryContextDelete(state->context);
}

/* Keep the codes of a row's values, if not too many rows of its block have been met */
static void
keep_codes(SampleState *state, ItemPointer tid, const Datum *values, const bool *isnull)
{
	const WinnowSchema *schema = &state->index->schema;
	bool		same = state->block == ItemPointerGetBlockNumber(tid);

	state->block = ItemPointerGetBlockNumber(tid);
	state->nof_block = same ? state->nof_block + 1 : 1;
	for (int i = 0; i < schema->nattrs && state->nof_block <= CODES_OF_BLOCK; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];

		if (state->codes[i] != NULL && !isnull[attr->index_attno] && state->ncodes[i] < MOST_CODES)
			state->codes[i][state->ncodes[i]++] = attr->type->code(values[attr->index_attno]);
	}
}

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
	if (state->spool == NULL)
	{
		old = MemoryContextSwitchTo(state->context);
		keep_codes(state, tid, values, isnull);
		MemoryContextSwitchTo(old);
		MemoryContextReset(state->context);
		return;
	}
	state->row->key = winnow_tid_pack(tid);
	if (winnow_key_draw(state->row->key, WINNOW_SALT_SAMPLE) >= state->rate)
		return;
	old = MemoryContextSwitchTo(state->context);
	winnow_index_vector(state->index, values[attno], state->row->vector);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->context);
	winnow_spool_add(state->spool, state->row);
}

/* The block of a stretch, of which the table has so many of equal length */
static BlockNumber
chosen_block(BlockNumber stretch, BlockNumber nblocks, BlockNumber nstretches)
{
	BlockNumber low = (BlockNumber) ((uint64) stretch * nblocks / nstretches);
	BlockNumber high = (BlockNumber) ((uint64) (stretch + 1) * nblocks / nstretches);

	return low + (BlockNumber) (winnow_key_draw(stretch, WINNOW_SALT_BLOCK) * (high - low));
}

/* Scan the blocks of some stretches of the table, those from first to end - 1 */
static void
scan_stretches(WinnowTeam *team, BlockNumber first, BlockNumber end, BlockNumber nblocks,
			   BlockNumber nstretches, SampleState *state)
{
	/* do not wait for transactions yet; a snapshot never does */
	bool		anyvisible = !team->info->ii_Concurrent;

	while (first < end)
	{
		BlockNumber start = chosen_block(first++, nblocks, nstretches);
		BlockNumber count = 1;

		for (; first < end && chosen_block(first, nblocks, nstretches) == start + count; first++)
			count++;
		table_index_build_range_scan(team->heap, team->rel, team->info, false, anyvisible,
									 false, start, count, sample_row, state, NULL);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * A phase: the sample of the table.  A task is some stretches one after the other, and a file of its own, so that
 * the sample is in the order of the table whoever has taken the task.
 */
void
winnow_sample_stretches(WinnowTeam *team)
{
	const WinnowTeamShared *shared = team->shared;
	SampleState state;
	int			task;

	begin_sample(team, NULL, shared->sample_rate, &state);
	while ((task = winnow_team_take(team)) >= 0)
	{
		state.spool = winnow_spool_create(&team->files, "sample", task, 0, team->index->dims);
		scan_stretches(team, (BlockNumber) ((uint64) task * shared->nstretches / shared->ntasks),
					   (BlockNumber) ((uint64) (task + 1) * shared->nstretches / shared->ntasks),
					   shared->nblocks, shared->nstretches, &state);
		winnow_spool_close(state.spool);
	}
	end_sample(&state);
}

/* The sample of the level that is being built */
WinnowSpool *
winnow_sample_open(const WinnowTeam *team)
{
	return winnow_spool_open_row(&team->files, "sample", 0, team->shared->nsamples, 0,
								 team->index->dims);
}

void
winnow_sample_delete(const WinnowTeam *team)
{
	for (int task = 0; task < team->shared->nsamples; task++)
		winnow_file_delete(&team->files, "sample", task);
}

/* Count the rows of some blocks; by them also choose the attributes' shifts */
static int64
count_rows(WinnowTeam *team, BlockNumber nblocks, BlockNumber ncounted)
{
	WinnowSchema *schema = unconstify(WinnowSchema *, &team->index->schema);
	uint8	   *shifts = team->shared->shifts;
	SampleState state;

	begin_sample(team, NULL, 0, &state);
	for (int i = 0; i < schema->nattrs; i++)
		if (schema->attrs[i].type->kind == WINNOW_COLUMN_ORDERED)
			state.codes[i] = palloc(sizeof(int64) * MOST_CODES);
	scan_stretches(team, 0, ncounted, nblocks, ncounted, &state);
	for (int i = 0; i < schema->nattrs; i++)
	{
		shifts[i] = 0;
		if (state.codes[i] == NULL)
			continue;
		shifts[i] = winnow_imprint_shift(schema, &schema->attrs[i], state.codes[i], state.ncodes[i]);
		pfree(state.codes[i]);
	}
	winnow_imprint_init(schema, team->index->list_size, shifts);
	end_sample(&state);
	return state.count;
}

/*
 * Put a sample of the table's rows into the spool "sample".  Returns their
 * number, an estimate of the number of rows, and how many lists to make.
 */
int64
winnow_sample_table(WinnowTeam *team, double *nrows, int *nlists)
{
	WinnowTeamShared *shared = team->shared;
	BlockNumber nblocks = RelationGetNumberOfBlocks(team->heap);
	BlockNumber ncounted = Min(nblocks, COUNTED_BLOCKS);
	WinnowSpool *sample;
	int64		nsample;
	double		wanted;
	double		per_block;

	per_block = ncounted > 0 ? (double) count_rows(team, nblocks, ncounted) / ncounted : 0;
	*nrows = per_block * nblocks;
	*nlists = winnow_cluster_lists(team, 0, *nrows);

	wanted = Min(*nrows, (double) WINNOW_SAMPLE_PER_LIST * *nlists);
	shared->nblocks = nblocks;
	shared->nstretches = *nrows > 0 ? nblocks : 0;
	shared->sample_rate = 1;
	if (wanted < *nrows)
	{
		shared->nstretches = (BlockNumber) Min(nblocks, ceil(wanted / Min(per_block, ROWS_OF_BLOCK)));
		shared->sample_rate = Min(1, wanted / (shared->nstretches * per_block));
	}
	shared->nsamples = (int) Max(1, Min(shared->nstretches / STRETCHES, MOST_TASKS));
	winnow_team_run(team, WINNOW_PHASE_SAMPLE, shared->nsamples);
	sample = winnow_sample_open(team);
	nsample = winnow_spool_count(sample);
	winnow_spool_close(sample);
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

	team->shared->nsamples = 1;
	*nlists = winnow_cluster_lists(team, level, (double) nrows);
	rate = (double) WINNOW_SAMPLE_PER_LIST * *nlists / nrows;
	for (int part = 0; part < team->shared->nparts; part++)
	{
		WinnowSpool *nodes = winnow_nodes_open(team, level - 1, part);

		CHECK_FOR_INTERRUPTS();
		while (winnow_spool_next(nodes, row))
			if (rate >= 1 || winnow_key_draw(row->key, WINNOW_SALT_SAMPLE) < rate)
				winnow_spool_add(sample, row);
		winnow_spool_close(nodes);
	}
	nsample = winnow_spool_count(sample);
	winnow_spool_close(sample);
	winnow_spool_row_free(row);
	return nsample;
}

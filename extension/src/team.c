/*
 * team.c
 *		The processes of an index build.
 *
 * The leader goes through the build; where there is work for several, it calls
 * the workers for one phase, takes part in it, and waits until they are done.
 * Workers keep nothing between phases: what a phase needs to know is in the
 * shared struct or in files.  So whether a worker comes early, late or not at
 * all makes no difference to the outcome.
 *
 * Setting up follows nbtsort.c of PostgreSQL, the repeated calls
 * vacuumparallel.c.
 */
#include "postgres.h"

#include "team.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Keys of the table of contents */
#define KEY_SHARED		UINT64CONST(0x57494E4E00000001)
#define KEY_SCAN		UINT64CONST(0x57494E4E00000002)
#define KEY_QUERY_TEXT	UINT64CONST(0x57494E4E00000003)
#define KEY_WAL			UINT64CONST(0x57494E4E00000004)
#define KEY_BUFFERS		UINT64CONST(0x57494E4E00000005)

/*
 * Share of maintenance_work_mem that one thing may take: the centroids, or a
 * batch of rows.  A participant has at most one of each at a time.
 */
#define UNIT_SHARE		(1.0 / (2 * WINNOW_MAX_PARTICIPANTS))

/* Memory that winnow_team_abort() gives back in one piece: opendir() takes half of it, once */
#define RESERVE_BYTES (64 * 1024)

PGDLLEXPORT void winnow_build_worker(dsm_segment *seg, shm_toc *toc);

static void
init_shared(WinnowTeam *team, WinnowTeamShared *shared, int nparticipants)
{
	memset(shared, 0, sizeof(*shared));
	shared->heap = RelationGetRelid(team->heap);
	shared->rel = RelationGetRelid(team->rel);
	shared->concurrent = team->info->ii_Concurrent;
	shared->nparticipants = nparticipants;
	shared->set = team->set;
	shared->unit = (Size) (maintenance_work_mem * 1024.0 * UNIT_SHARE);
	pg_atomic_init_u32(&shared->next_task, 0);
	pg_atomic_init_u64(&shared->ndone, 0);
	SpinLockInit(&shared->mutex);
	team->shared = shared;
	team->files.nwriters = nparticipants;
}

/* Make what workers need; they are launched when there is something to do */
static void
prepare_workers(WinnowTeam *team, int nworkers)
{
	Snapshot	snapshot = SnapshotAny;
	ParallelContext *parallel;
	Size		scan_bytes;
	Size		query_bytes = debug_query_string ? strlen(debug_query_string) + 1 : 0;
	int			nkeys = query_bytes > 0 ? 5 : 4;

	EnterParallelMode();
	parallel = CreateParallelContext("winnow", "winnow_build_worker", nworkers);
	if (team->info->ii_Concurrent)
		snapshot = RegisterSnapshot(GetTransactionSnapshot());
	scan_bytes = table_parallelscan_estimate(team->heap, snapshot);
	shm_toc_estimate_chunk(&parallel->estimator, sizeof(WinnowTeamShared));
	shm_toc_estimate_chunk(&parallel->estimator, scan_bytes);
	shm_toc_estimate_chunk(&parallel->estimator, mul_size(sizeof(WalUsage), nworkers));
	shm_toc_estimate_chunk(&parallel->estimator, mul_size(sizeof(BufferUsage), nworkers));
	if (query_bytes > 0)
		shm_toc_estimate_chunk(&parallel->estimator, query_bytes);
	shm_toc_estimate_keys(&parallel->estimator, nkeys);
	InitializeParallelDSM(parallel);

	/* no segment to be had: the leader does it alone */
	if (parallel->seg == NULL)
	{
		DestroyParallelContext(parallel);
		ExitParallelMode();
	}
	else
	{
		WinnowTeamShared *shared = shm_toc_allocate(parallel->toc, sizeof(WinnowTeamShared));

		init_shared(team, shared, 1 + nworkers);
		team->scan = shm_toc_allocate(parallel->toc, scan_bytes);
		table_parallelscan_initialize(team->heap, team->scan, snapshot);
		team->wal_usage = shm_toc_allocate(parallel->toc, sizeof(WalUsage) * nworkers);
		team->buffer_usage = shm_toc_allocate(parallel->toc, sizeof(BufferUsage) * nworkers);
		shm_toc_insert(parallel->toc, KEY_SHARED, shared);
		shm_toc_insert(parallel->toc, KEY_SCAN, team->scan);
		shm_toc_insert(parallel->toc, KEY_WAL, team->wal_usage);
		shm_toc_insert(parallel->toc, KEY_BUFFERS, team->buffer_usage);
		if (query_bytes > 0)
		{
			char	   *query = shm_toc_allocate(parallel->toc, query_bytes);

			memcpy(query, debug_query_string, query_bytes);
			shm_toc_insert(parallel->toc, KEY_QUERY_TEXT, query);
		}
		team->parallel = parallel;
	}
	if (IsMVCCSnapshot(snapshot))
		UnregisterSnapshot(snapshot);
}

/*
 * Begin a build with up to the given number of workers.  What follows, up to
 * winnow_team_end(), is to be guarded by winnow_team_abort().
 */
WinnowTeam *
winnow_team_begin(Relation heap, Relation rel, IndexInfo *info, const WinnowIndex *index,
				  int nworkers)
{
	WinnowTeam *team = palloc0(sizeof(WinnowTeam));

	team->heap = heap;
	team->rel = rel;
	team->info = info;
	team->index = index;
	(void) palloc(RESERVE_BYTES);
	FileSetInit(&team->set);
	team->files.set = &team->set;
	if (nworkers > 0)
		prepare_workers(team, Min(nworkers, WINNOW_MAX_PARTICIPANTS - 1));
	if (team->parallel == NULL)
		init_shared(team, palloc(sizeof(WinnowTeamShared)), 1);
	return team;
}

static void
launch_workers(WinnowTeam *team, int nworkers)
{
	if (team->launched)
		ReinitializeParallelDSM(team->parallel);
	team->launched = true;
	ReinitializeParallelWorkers(team->parallel, nworkers);
	LaunchParallelWorkers(team->parallel);
	elog(DEBUG1, "winnow: %d of %d workers launched", team->parallel->nworkers_launched,
		 nworkers);
}

/*
 * Have a phase done by all participants, or the leader alone if there is only
 * one task.
 */
void
winnow_team_run(WinnowTeam *team, WinnowPhase phase, int ntasks)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow build phase",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			nworkers = Min(team->shared->nparticipants - 1, ntasks - 1);

	team->shared->phase = phase;
	team->shared->ntasks = ntasks;
	pg_atomic_write_u32(&team->shared->next_task, 0);
	pg_atomic_write_u64(&team->shared->ndone, 0);
	if (nworkers > 0)
		launch_workers(team, nworkers);
	winnow_build_run_phase(team);
	if (nworkers > 0)
	{
		WaitForParallelWorkersToFinish(team->parallel);
		for (int i = 0; i < team->parallel->nworkers_launched; i++)
			InstrAccumParallelQuery(&team->buffer_usage[i], &team->wal_usage[i]);
		winnow_team_progress(team, 0);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* The next task of the phase, or -1 */
int
winnow_team_take(WinnowTeam *team)
{
	uint32		task;

	CHECK_FOR_INTERRUPTS();
	task = pg_atomic_fetch_add_u32(&team->shared->next_task, 1);
	return task < (uint32) team->shared->ntasks ? (int) task : -1;
}

/* Rows are done; the leader shows how many all have done together */
void
winnow_team_progress(WinnowTeam *team, int nrows)
{
	uint64		ndone = pg_atomic_add_fetch_u64(&team->shared->ndone, nrows);

	if (team->shows_progress)
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) ndone);
}

/* The build is done: workers and files go, the shared struct stays */
void
winnow_team_end(WinnowTeam *team)
{
	if (team->parallel != NULL)
	{
		WinnowTeamShared *shared = palloc(sizeof(WinnowTeamShared));

		memcpy(shared, team->shared, sizeof(WinnowTeamShared));
		team->shared = shared;
		DestroyParallelContext(team->parallel);
		team->parallel = NULL;
		ExitParallelMode();
	}
	FileSetDeleteAll(&team->set);
}

/*
 * The build has failed, or the process is about to end; for
 * PG_ENSURE_ERROR_CLEANUP.  The files must not stay for as long as the
 * transaction is there, and workers go first lest they make new ones.
 */
void
winnow_team_abort(int code, Datum arg)
{
	WinnowTeam *team = (WinnowTeam *) DatumGetPointer(arg);
	FileSet		set = team->set;

	HOLD_INTERRUPTS();
	if (team->parallel != NULL)
		DestroyParallelContext(team->parallel);

	/*
	 * Listing the folder takes memory, which is short if that is why the build
	 * has failed: this gives back what was reserved.  The team is in the build's context too.
	 */
	MemoryContextSwitchTo(ErrorContext);
	MemoryContextReset(GetMemoryChunkContext(team));
	FileSetDeleteAll(&set);
	RESUME_INTERRUPTS();
}

/* A worker's share of one phase */
void
winnow_build_worker(dsm_segment *seg, shm_toc *toc)
{
	WinnowTeamShared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	WalUsage   *wal_usage = shm_toc_lookup(toc, KEY_WAL, false);
	BufferUsage *buffer_usage = shm_toc_lookup(toc, KEY_BUFFERS, false);
	WinnowTeam	team = {0};
	WinnowMeta	meta;

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY_TEXT, true);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	/* the leader's locks, which do not conflict with ours */
	team.heap = table_open(shared->heap,
						   shared->concurrent ? ShareUpdateExclusiveLock : ShareLock);
	team.rel = index_open(shared->rel,
						  shared->concurrent ? RowExclusiveLock : AccessExclusiveLock);
	team.info = BuildIndexInfo(team.rel);
	team.info->ii_Concurrent = shared->concurrent;
	winnow_meta_fill(team.rel, &meta);
	for (int i = 0; i < meta.nattrs; i++)
		meta.attrs[i].shift = shared->shifts[i];
	team.index = winnow_index_create(team.rel, &meta, CurrentMemoryContext);
	team.files.set = &shared->set;
	team.files.writer = ParallelWorkerNumber + 1;
	team.files.nwriters = shared->nparticipants;
	team.shared = shared;
	team.scan = shm_toc_lookup(toc, KEY_SCAN, false);

	InstrStartParallelQuery();
	winnow_build_run_phase(&team);
	InstrEndParallelQuery(&buffer_usage[ParallelWorkerNumber],
						  &wal_usage[ParallelWorkerNumber]);

	index_close(team.rel, NoLock);
	table_close(team.heap, NoLock);
}

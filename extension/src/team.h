/*
 * team.h
 *		The processes of an index build, and what they share.
 */
#ifndef WINNOW_TEAM_H
#define WINNOW_TEAM_H

#include "access/parallel.h"
#include "storage/fileset.h"
#include "storage/spin.h"

#include "spool.h"

/* What all participants do at the same time */
typedef enum WinnowPhase
{
	WINNOW_PHASE_SAMPLE,		/* of the table's rows; a task is a piece of the table */
	WINNOW_PHASE_GROUPS,		/* k-means of a group's lists; a task is a group */
	WINNOW_PHASE_REFINE,		/* an iteration over the sample; a task is a group */
	WINNOW_PHASE_DEAL,			/* rows to parts by list */
	WINNOW_PHASE_WRITE,			/* lists to nodes; a task is a part */
	WINNOW_PHASE_PLAY			/* searches, for the calibration; a task is some queries */
} WinnowPhase;

typedef struct WinnowTeamShared
{
	/* set at the beginning */
	Oid			heap;
	Oid			rel;
	bool		concurrent;
	int			nparticipants;
	FileSet		set;
	Size		unit;

	/* set by the leader while no worker runs */
	WinnowPhase phase;
	int			level;
	int			nparts;			/* of this level's rows */
	int			nsources;		/* parts of the level below */
	int			ntasks;
	pg_atomic_uint32 next_task;
	BlockNumber nblocks;		/* of the table */
	BlockNumber nstretches;		/* of it, from each of which a block is sampled */
	double		sample_rate;	/* of such a block's rows */
	int			nsamples;		/* files of the sample, in the order of the table */
	uint8		shifts[INDEX_MAX_KEYS]; /* of the attributes, see WinnowAttr */
	float		play_dim;		/* effective dimension, and rows wanted, of the searches played */
	int			play_k;

	pg_atomic_uint64 ndone;		/* rows, for the progress view */

	slock_t		mutex;			/* guards the rest */
	double		heap_tuples;
	int64		nindexed;
	bool		broken_hot_chain;
} WinnowTeamShared;

/* A build as one participant sees it */
typedef struct WinnowTeam
{
	Relation	heap;
	Relation	rel;
	IndexInfo  *info;
	const WinnowIndex *index;
	WinnowFiles files;
	WinnowTeamShared *shared;
	ParallelTableScanDesc scan; /* NULL: the leader is alone */

	/* the leader's */
	bool		shows_progress;
	FileSet		set;
	ParallelContext *parallel;	/* NULL: there are no workers */
	bool		launched;
	BufferUsage *buffer_usage;
	WalUsage   *wal_usage;
} WinnowTeam;

#define winnow_team_leads(team) ((team)->files.writer == 0)

extern WinnowTeam *winnow_team_begin(Relation heap, Relation rel, IndexInfo *info,
									 const WinnowIndex *index, int nworkers);
extern void winnow_team_run(WinnowTeam *team, WinnowPhase phase, int ntasks);
extern int	winnow_team_take(WinnowTeam *team);
extern void winnow_team_progress(WinnowTeam *team, int nrows);
extern void winnow_team_end(WinnowTeam *team);
extern void winnow_team_abort(int code, Datum team);

/* build.c */
extern void winnow_build_run_phase(WinnowTeam *team);

#endif							/* WINNOW_TEAM_H */

/*
 * calibrate_private.h
 *		What a calibration knows; for calibrate.c and calibrate_play.c alone.
 */
#ifndef WINNOW_CALIBRATE_PRIVATE_H
#define WINNOW_CALIBRATE_PRIVATE_H

#include "calibrate.h"

/* Most neighbours that are played for, and neighbours that are kept */
#define MOST_K 100
#define KEPT (2 * MOST_K)

/* Kinds of filters, of which the first are rows drawn at random; see calibrate.c */
#define FILTERS 6
#define RANDOM_FILTERS 4

/*
 * How often rows are drawn for a random filter.  With one draw for all queries the few rows that pass, of which some
 * may be special, would decide alone.  So many queries in a row have a draw in common.
 */
#define DRAWS WINNOW_FILTER_DRAWS
#define DRAW_QUERIES (COMMON_QUERIES / DRAWS)
#define draw_of(query) ((query) / DRAW_QUERIES % DRAWS)

/*
 * Queries.  Under the filters that few rows pass, as drawn at random, searches are
 * the hardest, and to ask more costs little:  those count on all queries, the
 * others on the first of them.
 */
#define QUERIES 512
#define COMMON_QUERIES 128
#define RARE_SHARE 0.01
#define RARE_FILTER 2			/* the first of the random ones with that share or less */
#define is_rare(f) ((f) >= RARE_FILTER && (f) < RANDOM_FILTERS)

/* Tolerances that are tried: a geometric series from the largest down */
#define STEPS 128
#define LARGEST 3.0
#define STEP 0.91

typedef struct Neighbour
{
	float		score;
	uint64		list;			/* key of the list's node */
} Neighbour;

/* The worst on top; which of equals is kept must not depend on when they came */
static inline bool
neighbour_before(const Neighbour *a, const Neighbour *b)
{
	return a->score > b->score || (a->score == b->score && a->list > b->list);
}

WINNOW_HEAP(neighbours, Neighbour, neighbour_before)

/* Keep a row if it is among the nearest */
static inline void
neighbours_offer(neighbours_heap *nearest, Neighbour neighbour)
{
	if (nearest->count < KEPT)
		neighbours_push(nearest, neighbour);
	else if (neighbour_before(&nearest->items[0], &neighbour))
	{
		nearest->items[0] = neighbour;
		neighbours_sift_down(nearest, 0);
	}
}

/* What is asked of every row; in a file, with mean and queries behind it */
typedef struct Questions
{
	int			nqueries;		/* 0: there are not enough rows */
	uint64		key[QUERIES];	/* rows that are the queries */
	float		query2[QUERIES];	/* their squared lengths */
	int			other[FILTERS][COMMON_QUERIES]; /* of filters near a query: which one */
	float		radius2[FILTERS][COMMON_QUERIES];	/* and how near */
} Questions;

/* What is noted of every list; in a file per part */
typedef struct ListNotes
{
	WinnowChildStats stats;
	float		spread;			/* squared distance of the centroid to the mean */
	float		code[2];		/* what the code begins with: how far off estimates are */
	float		centroid[QUERIES];	/* its scores */
	float		estimate[QUERIES];	/* of these, by its code */
	uint16		random[RANDOM_FILTERS][DRAWS]; /* rows that pass, by draw */
	uint16		passed[FILTERS][COMMON_QUERIES];	/* rows that pass another filter */
} ListNotes;

struct WinnowCalibration
{
	WinnowTeam *team;
	const WinnowIndex *index;
	Questions	asked;
	float	   *queries;
	float	   *mean;			/* of the sample */
	float	   *distance2;		/* of a row to every query */
	char	   *query_codes;	/* of the queries, as prepared for the mean */
	uint8	   *code;			/* of a centroid */
	double		stray[COMMON_QUERIES];	/* rows elsewhere that pass a filter near a query, as a share */
	neighbours_heap nearest[FILTERS][QUERIES];
	ListNotes	notes;
	BufFile    *file;			/* of the part that is being written */

	/* while searches are played, for the queries from "first" on */
	int			nlists;
	int			first;
	int			nplayed;
	WinnowChildStats *stats;
	float	   *spread;
	float	   *codes;			/* see ListNotes, a pair a list */
	float	   *centroids;		/* scores of every list's centroid, a query after the other */
	float	   *estimates;		/* likewise, by codes */
	uint16	   *passed[FILTERS];	/* likewise; of random filters, by draw */
};

/* How many queries are played under a filter */
static inline int
queries_of(const WinnowCalibration *calibration, int filter)
{
	int			nqueries = calibration->asked.nqueries;

	return is_rare(filter) ? nqueries : Min(nqueries, COMMON_QUERIES);
}

/* How many rows of a list pass a filter of a query whose notes are loaded */
static inline int
rows_passed(const WinnowCalibration *calibration, int filter, int list, int query)
{
	if (filter < RANDOM_FILTERS)
		return calibration->passed[filter][(Size) list * DRAWS + draw_of(query)];
	return calibration->passed[filter][(Size) list * calibration->nplayed + query - calibration->first];
}

/* A query as prepared for the mean */
static inline WinnowQueryCode *
query_code(const WinnowCalibration *calibration, int i)
{
	return (WinnowQueryCode *) (calibration->query_codes +
								i * MAXALIGN(winnow_query_bytes(calibration->index->dims)));
}

/* What a search played through adds up to, for one filter, by target and tolerance */
typedef struct Outcome
{
	double		recall[WINNOW_RECALL_TARGETS][STEPS];
	double		lists[WINNOW_RECALL_TARGETS][STEPS];	/* read */
	int			count;
} Outcome;

extern const double winnow_calibration_targets[WINNOW_RECALL_TARGETS];

/* calibrate_play.c */
extern int	winnow_calibration_lists(const WinnowTeam *team, int *start);
extern void winnow_calibration_run(WinnowTeam *team, int nqueries, float effective_dim, int k,
								   Outcome *outcomes);

#endif							/* WINNOW_CALIBRATE_PRIVATE_H */

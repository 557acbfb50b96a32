/*
 * calibrate_play.c
 *		Searches played through in memory.
 *
 * A search reads lists in the order of their keys, as estimated by codes, and asks recall.c
 * now and then whether to go on.  Here the lists of the exact neighbours are known, so the
 * recall that it would stop at is found for every tolerance at once.
 */
#include "postgres.h"

#include "calibrate_private.h"

#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Queries that are played at a time, at most; all lists' notes are read for them */
#define TASK_QUERIES 64

/* The lists of one query in the order in which a search reads them */
typedef struct Play
{
	float		effective_dim;
	WinnowRecall recall;
	WinnowQueueItem *lists;		/* "block" is the number of the list */
	int			nlists;
	int		   *place;			/* of every list in that order; -1: no row passes */
	float	   *plane;			/* their planes, by what a search knows once it has read them */
	float	   *better;			/* sum of better rows over the lists up to a place */
	float	   *share;			/* sum of the ball's shares likewise, as they are when read ... */
	float	   *unread;			/* ... and before */
	double		effort[WINNOW_RECALL_TARGETS];	/* see winnow_recall_effort */
	bool		expects;		/* the planner knows how many rows pass the filter */
	double	   *tested;			/* rows of the lists up to a place */
	double	   *passed;			/* of those, rows that pass the filter */
} Play;

static int
compare_items(const void *a, const void *b)
{
	float		x = ((const WinnowQueueItem *) a)->key;
	float		y = ((const WinnowQueueItem *) b)->key;

	return x < y ? -1 : x > y;
}

static int
compare_neighbours(const void *a, const void *b)
{
	if (neighbour_before(a, b))
		return 1;
	return neighbour_before(b, a) ? -1 : 0;
}

/* Put all lists into the order of a query */
static void
order_lists(const WinnowCalibration *calibration, int query, Play *play,
			WinnowQueueItem *order)
{
	int			dims = calibration->index->dims;

	winnow_recall_init(&play->recall, 0.5, calibration->index,
					   calibration->queries + (Size) query * dims);
	play->recall.effective_dim = play->effective_dim;
	play->recall.root2 = winnow_kernels->inner_product(calibration->mean, calibration->mean,
													   dims);
	for (int l = 0; l < calibration->nlists; l++)
	{
		const uint16 row = 0;
		float		error;
		float		norm;

		order[l].level = 0;
		winnow_estimate_errors(query_code(calibration, query), (uint8 *) &calibration->codes[2 * l],
							   calibration->index->code_bytes, &row, 1, &error, &norm);
		winnow_recall_describe(&play->recall,
							   calibration->estimates[(Size) l * calibration->nplayed + query - calibration->first],
							   error, &calibration->stats[l], calibration->spread[l], &order[l]);
		order[l].block = l;
	}
	qsort(order, calibration->nlists, sizeof(WinnowQueueItem), compare_items);
}

/* Leave the lists that have a match, as if summaries had pruned the others */
static void
prune_lists(const WinnowCalibration *calibration, int query, int filter, Play *play,
			const WinnowQueueItem *order)
{
	WinnowQueueItem best = {0};

	play->nlists = 0;
	for (int i = 0; i < calibration->nlists; i++)
	{
		int			list = order[i].block;
		int			passed = rows_passed(calibration, filter, list, query);
		int			before = play->nlists - 1;
		WinnowQueueItem read;

		play->place[list] = passed > 0 ? play->nlists : -1;
		if (passed == 0)
			continue;
		read = order[i];
		read.centroid_score =
			calibration->centroids[(Size) list * calibration->nplayed + query - calibration->first];
		read.error = 0;
		if (play->nlists == 0)
			best = read;
		play->lists[play->nlists] = order[i];
		winnow_recall_place(&play->recall, &play->lists[play->nlists], &best);
		winnow_recall_place(&play->recall, &read, &best);
		play->plane[play->nlists] = read.plane;
		play->tested[play->nlists] = (before < 0 ? 0 : play->tested[before]) + order[i].rows;
		play->passed[play->nlists] = (before < 0 ? 0 : play->passed[before]) + passed;
		play->nlists++;
	}
}

/* The estimates' terms at a threshold, summed up from the first list on */
static void
sum_terms(Play *play, float threshold)
{
	float		scale = winnow_recall_ball_scale(&play->recall, threshold);
	WinnowQueueItem read = {0};
	double		better = 0;
	double		share = 0;
	double		unread = 0;

	for (int i = 0; i < play->nlists; i++)
	{
		better += winnow_recall_better_rows(&play->lists[i], threshold);
		read.plane = play->plane[i];
		share += i == 0 ? 1 : winnow_recall_ball_share(&read, scale);
		unread += winnow_recall_ball_share(&play->lists[i], scale);
		play->better[i] = (float) better;
		play->share[i] = (float) share;
		play->unread[i] = (float) unread;
	}
}

/* The k best of the lists read, sorted, and the places of their lists */
typedef struct Best
{
	int			k;
	int			count;
	float		score[MOST_K];
	int			place[MOST_K];
} Best;

/* Returns whether the row is one of them */
static bool
best_add(Best *best, float score, int place)
{
	int			i;

	if (best->count == best->k && score >= best->score[best->k - 1])
		return false;
	for (i = best->count == best->k ? best->k - 1 : best->count++; i > 0 && best->score[i - 1] > score; i--)
	{
		best->score[i] = best->score[i - 1];
		best->place[i] = best->place[i - 1];
	}
	best->score[i] = score;
	best->place[i] = place;
	return true;
}

/* Share of the rows of lists not read that are expected to pass, when n have been read */
static double
pass_rate(const Play *play, int n)
{
	int			last = play->nlists - 1;

	return winnow_recall_pass_rate(play->passed[n - 1], play->tested[n - 1],
								   play->expects ? play->passed[last] : 0,
								   play->tested[last] - play->tested[n - 1]);
}

/*
 * Share of the k best that is estimated to be missing when n lists have been
 * read, as in winnow_recall_reached
 */
static double
missing(const Play *play, const Best *best, int n, double rate)
{
	int			last = play->nlists - 1;
	int			late = (int) winnow_recall_late(n);
	double		early = late > 0 ? play->share[late - 1] : 0;
	double		have = play->share[n - 1];
	double		by_rows = (play->better[last] - play->better[n - 1]) * rate / best->k;
	int			hits = 0;

	for (int i = 0; i < best->k; i++)
		hits += best->place[i] >= late;
	return Max(by_rows, winnow_recall_missing(hits, have - early, have,
											  play->unread[last] - play->unread[n - 1], best->k));
}

/* How far a search has come: the next tolerance to be tried, for every target */
typedef struct Progress
{
	int			step[WINNOW_RECALL_TARGETS];
	double		tolerance[WINNOW_RECALL_TARGETS];
	int			open;			/* targets for which there is another */
} Progress;

/*
 * When n lists have been read and a share of the k best is found: with which
 * tolerances does the search stop here?
 */
static void
stop_searches(const Play *play, const Best *best, int n, double found, Progress *progress,
			  Outcome *outcome)
{
	double		rate = pass_rate(play, n);
	double		lacking = missing(play, best, n, rate);
	double		matching = play->tested[play->nlists - 1] * rate;
	double		usual = winnow_recall_usual_lists(play->nlists, best->k,
												  Min(best->k / matching, 1));

	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
	{
		double		bearable;

		if (progress->step[t] == STEPS)
			continue;
		bearable = winnow_recall_bearable(1, n, usual * play->effort[t]);
		while (progress->step[t] < STEPS && lacking <= progress->tolerance[t] * bearable)
		{
			outcome->lists[t][progress->step[t]] += n;
			outcome->recall[t][progress->step[t]++] += found;
			progress->tolerance[t] *= STEP;
		}
		progress->open -= progress->step[t] == STEPS;
	}
}

/*
 * Play the search of one query under one filter, whose neighbours are sorted:
 * add the recall at which it stops to the outcome of every target and tolerance.
 */
static void
play_search(Play *play, int k, const Neighbour *nearest, int nnearest, Outcome *outcome)
{
	Best		best = {.k = k};
	Progress	progress = {.open = WINNOW_RECALL_TARGETS};
	int			nhits = 0;
	int		   *at = palloc0(sizeof(int) * (play->nlists + 1));	/* first neighbour of a list */
	int		   *next = palloc(sizeof(int) * nnearest);

	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		progress.tolerance[t] = LARGEST;
	for (int j = nnearest - 1; j >= 0; j--)
	{
		int			place = play->place[nearest[j].list];

		next[j] = at[place];
		at[place] = j + 1;
	}
	for (int n = 1; n <= play->nlists && progress.open > 0; n++)
	{
		bool		changed = false;

		for (int j = at[n - 1]; j > 0; j = next[j - 1])
		{
			/* any of those that are equally far will do */
			nhits += nearest[j - 1].score <= nearest[k - 1].score;
			changed |= best_add(&best, nearest[j - 1].score, n - 1);
		}
		if (best.count < k)
			continue;
		if (changed)
			sum_terms(play, best.score[k - 1]);
		stop_searches(play, &best, n, (double) Min(nhits, k) / k, &progress, outcome);
	}
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		while (progress.step[t] < STEPS)
		{
			outcome->lists[t][progress.step[t]] += play->nlists;
			outcome->recall[t][progress.step[t]++] += 1;
		}
	outcome->count++;
	pfree(at);
	pfree(next);
}

/*
 * Play the searches of the queries whose notes are loaded, under all filters, and
 * add what comes out to the outcomes.
 */
static void
play_queries(WinnowCalibration *calibration, float effective_dim, int k, Outcome *outcomes)
{
	Play		play = {0};
	WinnowQueueItem *order;
	int			nlists = calibration->nlists;

	play.effective_dim = effective_dim;
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		play.effort[t] = winnow_recall_effort(winnow_calibration_targets[t]);
	order = palloc_extended(sizeof(WinnowQueueItem) * nlists, MCXT_ALLOC_HUGE);
	play.lists = palloc_extended(sizeof(WinnowQueueItem) * nlists, MCXT_ALLOC_HUGE);
	play.place = palloc_extended(sizeof(int) * nlists, MCXT_ALLOC_HUGE);
	play.better = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.plane = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.share = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.unread = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.tested = palloc_extended(sizeof(double) * nlists, MCXT_ALLOC_HUGE);
	play.passed = palloc_extended(sizeof(double) * nlists, MCXT_ALLOC_HUGE);
	for (int i = calibration->first; i < calibration->first + calibration->nplayed; i++)
	{
		order_lists(calibration, i, &play, order);
		for (int f = 0; f < FILTERS; f++)
		{
			neighbours_heap *nearest = &calibration->nearest[f][i];

			CHECK_FOR_INTERRUPTS();
			if (i >= queries_of(calibration, f) || nearest->count < 2 * (Size) k)
				continue;
			qsort(nearest->items, nearest->count, sizeof(Neighbour), compare_neighbours);
			prune_lists(calibration, i, f, &play, order);

			/*
			 * What it knows helps where a filter goes with the vector.
			 * Elsewhere it may do without.
			 */
			play.expects = f >= RANDOM_FILTERS;
			play_search(&play, k, nearest->items, nearest->count, &outcomes[f]);
		}
	}
	pfree(order);
	pfree(play.lists);
	pfree(play.place);
	pfree(play.better);
	pfree(play.plane);
	pfree(play.share);
	pfree(play.unread);
	pfree(play.tested);
	pfree(play.passed);
}

/* Bring together the neighbours that participants have found */
static void
merge_neighbours(WinnowCalibration *calibration)
{
	BufFile    *opened[WINNOW_MAX_PARTICIPANTS];
	int			n = winnow_file_open(&calibration->team->files, "neighbours", 0, opened);

	for (int w = 0; w < n; w++)
	{
		for (int f = 0; f < FILTERS; f++)
			for (int i = 0; i < queries_of(calibration, f); i++)
			{
				Size		count;
				Neighbour	found[KEPT];

				winnow_file_read(opened[w], &count, sizeof(count));
				winnow_file_read(opened[w], found, sizeof(Neighbour) * count);
				for (Size j = 0; j < count; j++)
					neighbours_offer(&calibration->nearest[f][i], found[j]);
			}
		BufFileClose(opened[w]);
	}
}

/*
 * Lists have the numbers of their parts in a row: start[] becomes the first number of each
 * part, if it is not NULL.  Returns how many lists there are.
 */
int
winnow_calibration_lists(const WinnowTeam *team, int *start)
{
	int			nlists = 0;

	for (int part = 0; part < team->shared->nparts; part++)
	{
		BufFile    *file = winnow_file_open_only(&team->files, "notes", part);

		if (start != NULL)
			start[part] = nlists;
		nlists += (int) (BufFileSize(file) / sizeof(ListNotes));
		BufFileClose(file);
	}
	return nlists;
}

/* Let the neighbours' lists be known by their numbers instead of their keys */
static void
number_lists(WinnowCalibration *calibration)
{
	int			start[WINNOW_MAX_PARTS];

	calibration->nlists = winnow_calibration_lists(calibration->team, start);
	for (int f = 0; f < FILTERS; f++)
		for (int i = 0; i < queries_of(calibration, f); i++)
		{
			neighbours_heap *nearest = &calibration->nearest[f][i];

			for (Size j = 0; j < nearest->count; j++)
			{
				uint64		key = nearest->items[j].list;

				nearest->items[j].list = start[key >> 32] + (key & PG_UINT32_MAX);
			}
		}
}

/* Queries that a task is to play: as many as there is memory for, but let there be several tasks */
static int
queries_of_task(const WinnowTeam *team, int nlists)
{
	Size		bytes = (sizeof(float) * 2 + sizeof(uint16) * FILTERS) * nlists;

	return (int) Max(Min(team->shared->unit / Max(bytes, 1), TASK_QUERIES), 1);
}

static void
alloc_notes(WinnowCalibration *calibration, int most)
{
	Size		nlists = calibration->nlists;

	calibration->stats = palloc_extended(sizeof(WinnowChildStats) * nlists, MCXT_ALLOC_HUGE);
	calibration->spread = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	calibration->codes = palloc_extended(sizeof(float) * 2 * nlists, MCXT_ALLOC_HUGE);
	calibration->centroids = palloc_extended(sizeof(float) * nlists * most, MCXT_ALLOC_HUGE);
	calibration->estimates = palloc_extended(sizeof(float) * nlists * most, MCXT_ALLOC_HUGE);
	for (int f = 0; f < FILTERS; f++)
		calibration->passed[f] = palloc_extended(sizeof(uint16) * nlists *
													 (f < RANDOM_FILTERS ? DRAWS : most),
												 MCXT_ALLOC_HUGE);
}

/* Read what was noted of the lists for some queries */
static void
load_notes(WinnowCalibration *calibration, int first, int nplayed)
{
	WinnowTeam *team = calibration->team;
	ListNotes  *notes = &calibration->notes;
	int			list = 0;

	calibration->first = first;
	calibration->nplayed = nplayed;
	for (int part = 0; part < team->shared->nparts; part++)
	{
		BufFile    *file = winnow_file_open_only(&team->files, "notes", part);

		CHECK_FOR_INTERRUPTS();
		while (BufFileRead(file, notes, sizeof(*notes)) == sizeof(*notes))
		{
			Size		at = (Size) list * nplayed;

			calibration->stats[list] = notes->stats;
			calibration->spread[list] = notes->spread;
			memcpy(&calibration->codes[2 * list], notes->code, sizeof(notes->code));
			memcpy(calibration->centroids + at, notes->centroid + first, sizeof(float) * nplayed);
			memcpy(calibration->estimates + at, notes->estimate + first, sizeof(float) * nplayed);
			for (int f = 0; f < RANDOM_FILTERS; f++)
				memcpy(calibration->passed[f] + (Size) list * DRAWS, notes->random[f], sizeof(notes->random[f]));
			for (int f = RANDOM_FILTERS; f < FILTERS && first < COMMON_QUERIES; f++)
				memcpy(calibration->passed[f] + at, notes->passed[f] + first,
					   sizeof(uint16) * Min(nplayed, COMMON_QUERIES - first));
			list++;
		}
		BufFileClose(file);
	}
	Assert(list == calibration->nlists);
}

/* A phase: the searches of all queries.  A task is some of these; what comes out goes to a file of its own. */
void
winnow_calibration_play(WinnowTeam *team)
{
	WinnowCalibration *calibration = winnow_calibration_open(team);
	Outcome    *outcomes = palloc(sizeof(Outcome) * FILTERS);
	int			nqueries = calibration->asked.nqueries;
	int			most;
	int			task;

	merge_neighbours(calibration);
	number_lists(calibration);
	most = queries_of_task(team, calibration->nlists);
	alloc_notes(calibration, most);
	while ((task = winnow_team_take(team)) >= 0)
	{
		BufFile    *file = winnow_file_create(&team->files, "outcomes", task);

		load_notes(calibration, task * most, Min(most, nqueries - task * most));
		memset(outcomes, 0, sizeof(Outcome) * FILTERS);
		play_queries(calibration, team->shared->play_dim, team->shared->play_k, outcomes);
		winnow_file_write(file, outcomes, sizeof(Outcome) * FILTERS);
		BufFileClose(file);
	}
}

/*
 * Have the searches of all queries played by all participants, for k rows and with an effective
 * dimension: outcomes becomes what they add up to, by filter.  The sum is made in the order of the tasks.
 */
void
winnow_calibration_run(WinnowTeam *team, int nqueries, float effective_dim, int k,
					   Outcome *outcomes)
{
	int			most = queries_of_task(team, winnow_calibration_lists(team, NULL));
	int			ntasks = (nqueries + most - 1) / most;
	Outcome    *part = palloc(sizeof(Outcome) * FILTERS);

	team->shared->play_dim = effective_dim;
	team->shared->play_k = k;
	winnow_team_run(team, WINNOW_PHASE_PLAY, ntasks);
	memset(outcomes, 0, sizeof(Outcome) * FILTERS);
	for (int task = 0; task < ntasks; task++)
	{
		BufFile    *file = winnow_file_open_only(&team->files, "outcomes", task);

		winnow_file_read(file, part, sizeof(Outcome) * FILTERS);
		BufFileClose(file);
		winnow_file_delete(&team->files, "outcomes", task);
		for (int f = 0; f < FILTERS; f++)
		{
			outcomes[f].count += part[f].count;
			for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
				for (int step = 0; step < STEPS; step++)
				{
					outcomes[f].recall[t][step] += part[f].recall[t][step];
					outcomes[f].lists[t][step] += part[f].lists[t][step];
				}
		}
	}
	pfree(part);
}

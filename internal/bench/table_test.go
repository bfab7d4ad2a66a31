package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// results are the figures of all rounds.
type results struct {
	cells map[cell]*rounds
	file  io.Writer // gets each figure as a line that benchstat reads
}

// cell is a scenario and a contender, by their names.
type cell struct{ scenario, contender string }

// rounds are a cell's figures, a round each.
type rounds struct {
	figures map[int]figures // by round
	err     error           // what went wrong in one of them: then none counts
}

func newResults(file io.Writer) *results {
	fmt.Fprintf(file, "goos: %s\ngoarch: %s\npkg: github.com/sluice-sse/sluice\n\n", runtime.GOOS, runtime.GOARCH)
	return &results{cells: map[cell]*rounds{}, file: file}
}

func (r *results) of(scenario, contender string) *rounds {
	c := cell{scenario, contender}
	if r.cells[c] == nil {
		r.cells[c] = &rounds{figures: map[int]figures{}}
	}
	return r.cells[c]
}

// add adds what a round brought.
func (r *results) add(round int, s scenario, c contender, f figures, err error) {
	of := r.of(s.name, c.name)
	if err != nil {
		of.err = cmp.Or(of.err, fmt.Errorf("round %d: %w", round, err))
		fmt.Fprintf(r.file, "# %s/%s: %v\n", s.name, c.name, of.err)
		return
	}
	of.figures[round] = f
	name, variant, _ := strings.Cut(s.name, "/")
	line := "Benchmark" + name + "/" + c.name
	if variant != "" {
		line += "/" + variant
	}
	line += "\t1"
	for _, unit := range slices.Sorted(maps.Keys(f)) {
		line += fmt.Sprintf("\t%.4g %s", f[unit], unit)
	}
	fmt.Fprintln(r.file, line)
}

// measure is how a figure is taken from results, by round.
type measure func(r *results, contender string) (map[int]float64, error)

// figure is one that was measured.
func figure(scenario, unit string) measure {
	return func(r *results, contender string) (map[int]float64, error) {
		of := r.of(scenario, contender)
		all := map[int]float64{}
		for round, f := range of.figures {
			if v, ok := f[unit]; ok {
				all[round] = v
			}
		}
		return all, of.err
	}
}

// added is how much more it is than without any contender.
func added(m measure) measure {
	return func(r *results, contender string) (map[int]float64, error) {
		direct, err := m(r, "direct")
		if err != nil {
			return nil, err
		}
		all, err := m(r, contender)
		for round := range all {
			all[round] -= direct[round]
		}
		return all, err
	}
}

// median returns "–" where there is no figure.
func (m measure) median(r *results, contender string) string {
	all, err := m(r, contender)
	return median(all, err)
}

// ratio is the median of the ratios within each round: what else goes on on the
// machine changes from round to round.
func (m measure) ratio(r *results, contender, to string) string {
	a, err := m(r, contender)
	b, err2 := m(r, to)
	all := map[int]float64{}
	for round := range a {
		if b[round] > 0 {
			all[round] = a[round] / b[round]
		}
	}
	return median(all, cmp.Or(err, err2))
}

func median(all map[int]float64, err error) string {
	if err != nil || len(all) == 0 {
		return "–"
	}
	sorted := slices.Sorted(maps.Values(all))
	v := (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// column is one of a table.
type column struct {
	title string
	measure
}

// comparison is a table of contenders, and of how some compare to others.
type comparison struct {
	title   string
	rows    []string    // contenders
	ratios  [][2]string // pairs of contenders
	columns []column
}

var columns = []column{
	{"CPU µs/token, paced", figure("Paced", cpuPerToken)},
	{"p99 ms", figure("Paced", worstLatency)},
	{"CPU µs/token, flat out", figure("FlatOut", cpuPerToken)},
	{"KiB/stream, idle", figure("Idle", perStream)},
	{"same, collected", figure("Idle", liveStream)},
	{"CPU µs/open", figure("Idle", cpuPerOpen)},
}

var comparisons = []comparison{
	{
		title:   "From an OpenAI-compatible server to server-sent events",
		rows:    endToEnd,
		ratios:  [][2]string{{"sluice-guarded", "sluice-one"}, {"sluice-redis", "sluice-one"}, {"sluice-openai", "sluice-one"}, {"sluice-openai", "portkey"}, {"sluice-one", "proxy"}, {"sluice-one", "stock"}, {"sluice-two", "proxy"}, {"sluice-two", "stock"}},
		columns: slices.Concat(columns, []column{{"first token, ms added", added(figure("FirstToken", firstToken))}}),
	},
	{
		title:   "The hop from gRPC to server-sent events alone",
		rows:    hop,
		ratios:  [][2]string{{"hop-sluice", "hop-stock"}, {"hop-sluice", "hop-bare"}, {"hop-any", "hop-stock"}},
		columns: columns,
	},
}

// print prints the tables, and why what is missing is.
func (r *results) print(w io.Writer) {
	for _, c := range comparisons {
		c.print(w, r)
	}
	r.printScaling(w)
	for _, c := range slices.SortedFunc(maps.Keys(r.cells), func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.scenario, b.scenario), cmp.Compare(a.contender, b.contender))
	}) {
		if err := r.cells[c].err; err != nil {
			fmt.Fprintf(w, "no figures for %s, %s: %v\n", c.scenario, c.contender, err)
		}
	}
}

func (c comparison) print(w io.Writer, r *results) {
	fmt.Fprintf(w, "%s\n\n", c.title)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	var head, rule strings.Builder
	for _, col := range c.columns {
		fmt.Fprintf(&head, "\t| %s", col.title)
		rule.WriteString("\t|---:")
	}
	fmt.Fprintf(t, "|%s\t|\n|---%s\t|\n", head.String(), rule.String())
	for _, name := range c.rows {
		fmt.Fprintf(t, "| %s", contenderOf(name).title)
		for _, col := range c.columns {
			fmt.Fprintf(t, "\t| %s", col.median(r, name))
		}
		fmt.Fprint(t, "\t|\n")
	}
	for _, pair := range c.ratios {
		fmt.Fprintf(t, "| %s ÷ %s", contenderOf(pair[0]).title, contenderOf(pair[1]).title)
		for _, col := range c.columns {
			fmt.Fprintf(t, "\t| %s", col.ratio(r, pair[0], pair[1]))
		}
		fmt.Fprint(t, "\t|\n")
	}
	t.Flush()
	fmt.Fprintln(w)
}

// printScaling prints what is asked of Sluice alone: whether a token costs the
// same whatever there is of others.
func (r *results) printScaling(w io.Writer) {
	fmt.Fprint(w, "Sluice alone\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(t, "|\t| CPU µs/token\t| p99 ms\t| KiB/stream, silent\t| collected\t| kept when they ended\t|\n|---\t|---:\t|---:\t|---:\t|---:\t|---:\t|\n")
	type row struct{ scenario, contender, title string }
	rows := []row{
		{"Readers/readers=10", "sluice-one", "one completion of 500 tokens/s, 10 readers"},
		{"Readers/readers=100", "sluice-one", "100 readers"},
		{"Streams/streams=50", "sluice-one", "50 streams, together 5,000 tokens/s"},
		{"Streams/streams=500", "sluice-one", "500 streams"},
		{"Streams/streams=5000", "sluice-one", "5,000 streams"},
		{"Length/events=1000", "sluice-one", "200 completions of 1,000 events, flat out"},
		{"Length/events=100000", "sluice-one", "2 of 100,000"},
		{"Open", "sluice-one", "%v streams of 1 token/s, one process"},
		{"Open", "sluice-two", "%v, two processes"},
		{"Recorded", "sluice-one", "recorded streams of many servers, flat out, one process"},
		{"Recorded", "sluice-two", "two processes"},
	}
	for _, s := range scenarios {
		for _, contender := range s.of {
			if s.detail && len(r.of(s.name, contender).figures) > 0 {
				rows = append(rows, row{s.name, contender, s.name + ", " + contender})
			}
		}
	}
	for _, row := range rows {
		if strings.Contains(row.title, "%v") {
			row.title = fmt.Sprintf(row.title, figure(row.scenario, streamCount).median(r, row.contender))
		}
		fmt.Fprintf(t, "| %s", row.title)
		for _, unit := range []string{cpuPerToken, worstLatency, perStream, liveStream, keptStream} {
			fmt.Fprintf(t, "\t| %s", figure(row.scenario, unit).median(r, row.contender))
		}
		fmt.Fprint(t, "\t|\n")
	}
	t.Flush()
	fmt.Fprintln(w)
}

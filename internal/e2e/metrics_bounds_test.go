package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestClientsMakeNoSeries has a client that makes up whatever it can name, and never is let
// in: there are as many time series after a thousand of its requests as after a hundred,
// with nothing in them that it has named; and the log tells of most in numbers alone.
func TestClientsMakeNoSeries(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, e2etest.Body(""))
			p, metrics := startWatched(t, layout, u.Env(), e2etest.NewKeyring(t, "alice").Flag())
			ask := func(i int) {
				name := fmt.Sprintf("made-up-%d", i)
				for _, r := range []struct{ method, path string }{
					{"POST", "/v1/completions"}, {"GET", "/v1/completions/" + name}, {"GET", "/" + name}, {"MADE" + fmt.Sprint(i), "/v1/completions"},
				} {
					p.Send(t.Context(), t, r.method, r.path, strings.Replace(e2etest.Question, `"m"`, `"`+name+`"`, 1),
						"Authorization", "Bearer "+name, "X-Request-Id", name, "Idempotency-Key", name).Body.Close()
				}
			}
			series := func() (n int, all string) {
				for _, url := range metrics {
					all += scrape(t, url)
				}
				for line := range strings.Lines(all) {
					if ours.MatchString(line) {
						n++
					}
				}
				return n, all
			}
			for i := range 25 {
				ask(i)
			}
			before, _ := series()
			for i := range 250 {
				ask(25 + i)
			}
			after, all := series()
			if before == 0 || after != before || strings.Contains(all, "made-up") || strings.Contains(all, "MADE") {
				t.Errorf("%d series, and then %d:\n%s", before, after, all)
			}
			<-p.Stop()
			told := strings.Count(p.Log.String(), `msg="request refused"`)
			leftOut := 0
			for _, m := range leftOutRequests.FindAllStringSubmatch(p.Log.String(), -1) {
				n, _ := strconv.Atoi(m[1])
				leftOut += n
			}
			if leftOut == 0 || told+leftOut != 1100 {
				t.Errorf("of 1100 refusals the log tells %d in lines, and %d in numbers", told, leftOut)
			}
			if u.Calls.Load() != 0 {
				t.Error("the upstream was called")
			}
		})
	}
}

var (
	ours            = regexp.MustCompile(`^(sluice|gen_ai|http)_`)
	leftOutRequests = regexp.MustCompile(`left_out=(\d+) of="request refused"`)
)

package openai

import (
	"strings"
	"testing"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// TestFinishReasons checks the table, in all spellings that occur.
func TestFinishReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range finishReasons {
		for _, name := range row.names {
			if seen[name] {
				t.Errorf("%s stands twice in the table", name)
			}
			seen[name] = true
			if name != strings.ToLower(name) || strings.Contains(name, "-") {
				t.Errorf("%s is not as names are looked up", name)
			}
			for _, spelling := range []string{name, strings.ToUpper(name), strings.ReplaceAll(name, "_", "-")} {
				if got := parseFinish(spelling); got != row.finish {
					t.Errorf("%s: got %v, want %v", spelling, got, row.finish)
				}
			}
			if row.finish.failed && row.finish.reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
				t.Errorf("%s is a failure and a reason", name)
			}
		}
	}
	for reason, want := range map[string]finish{
		"":                              {},
		"eosFound":                      {reason: reasonStop},
		"content_filter: SAFETY":        {reason: reasonFilter},
		"content_filter: SOMETHING_NEW": {reason: reasonFilter},
		"function_call_filter: MALFORMED_FUNCTION_CALL": {failed: true},
		"function_call_filter: SOMETHING_NEW":           {failed: true},
		"stop: ":                                        {reason: reasonStop},
		"pause_turn":                                    {reason: reasonOther}, // Anthropic: to be continued by another request
		"repetition":                                    {reason: reasonOther}, // vLLM
		"something: new":                                {reason: reasonOther},
	} {
		if got := parseFinish(reason); got != want {
			t.Errorf("%q: got %v, want %v", reason, got, want)
		}
	}
}

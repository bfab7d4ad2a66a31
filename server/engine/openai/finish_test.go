package openai

import (
	"strings"
	"testing"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// TestFinishReasons checks the table, and the ways in which its words are written.
func TestFinishReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range finishReasons {
		for _, word := range row.words {
			if seen[word] {
				t.Errorf("%s stands twice in the table", word)
			}
			seen[word] = true
			if word != strings.ToLower(word) || strings.Contains(word, "-") {
				t.Errorf("%s is not as words are looked up", word)
			}
			for _, way := range []string{word, strings.ToUpper(word), strings.ReplaceAll(word, "_", "-")} {
				if got := endOf(way); got != row.end {
					t.Errorf("%s: got %v, want %v", way, got, row.end)
				}
			}
			if row.end.failed && row.end.reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
				t.Errorf("%s is a failure and a reason", word)
			}
		}
	}
	for reason, want := range map[string]end{
		"":                              {},
		"eosFound":                      {reason: stop},
		"content_filter: SAFETY":        {reason: contentFilter},
		"content_filter: SOMETHING_NEW": {reason: contentFilter},
		"function_call_filter: MALFORMED_FUNCTION_CALL": {failed: true},
		"function_call_filter: SOMETHING_NEW":           {failed: true},
		"stop: ":                                        {reason: stop},
		"pause_turn":                                    {reason: other}, // Anthropic: it is to be asked to go on
		"repetition":                                    {reason: other}, // vLLM: it went round in circles
		"something: new":                                {reason: other},
	} {
		if got := endOf(reason); got != want {
			t.Errorf("%q: got %v, want %v", reason, got, want)
		}
	}
}

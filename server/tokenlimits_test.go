package server

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// TestMoreTokens checks that no extra has an upstream make more tokens than there may be,
// by whatever name, and in either form; and that without a limit all goes through.
func TestMoreTokens(t *testing.T) {
	cases := []struct{ extra, fields string }{
		{`{"N_Predict":1}`, "extra.N_Predict"},
		{`{ "max_length" : 1}`, "extra.max_length"},
		{`{"options": {"num_predict":-1,"num_ctx":1}}`, "extra.options.num_predict"},
		{`{"extra_body":{"options":{"a":1},"Options":{"num_predict":1}}}`, "extra.extra_body.Options.num_predict"},
		{`{"extra_body":{"options":{"num_predict":1},"options":{}}}`, "extra.extra_body.options.num_predict"},
		{`{"extra_body":{"max_tokens":1,"n":2}}`, "extra.extra_body.max_tokens extra.extra_body.n"},
		{`{"parameters":{"N_cmpl":2},"generationConfig":{"candidateCount":1}}`, "extra.generationConfig.candidateCount extra.parameters.N_cmpl"},
		{`{"parameters":{"max_new_tokens":1}}`, "extra.parameters.max_new_tokens"},
		{`{"parameterſ":{"max_toKenſ":2}}`, "extra.parameterſ.max_toKenſ"}, // as Go's encoding/json has it
		{`{"min_tokenſ":101}`, "extra.min_tokenſ"},
		{`{"min_tokens":101}`, "extra.min_tokens"},
		{`{"min_tokens":"101"}`, "extra.min_tokens"},
		{`{"min_tokens":[1]}`, "extra.min_tokens"},
		{`{"min_tokens":1e9}`, "extra.min_tokens"},
		{`{"min_tokens":100,"min_length":null}`, ""},
		{`{"options":7,"extra_body":{"google":{"thinking_config":{"max_length":1}}}}`, ""},
		{`{"options":[{"n_predict":1},[]],"parameters":"x","sampling_params":null,"extra_body":{},"n_predict":1}`, "extra.n_predict"},
		{`{"parameters":{"options":{"a":[{}]},"n_predict":1},"max_length":1}`, "extra.max_length extra.parameters.n_predict"},
		{`{"guided_json":{"properties":{"max_length":{"type":"integer"}}},"top_k":1}`, ""},
	}
	for _, n := range tokenLimits {
		cases = append(cases, struct{ extra, fields string }{`{"inferenceConfig":{"` + n.name + `":1}}`, "extra.inferenceConfig." + n.name})
	}
	for _, tc := range cases {
		reqs := []*completionv1.CompletionRequest{{Prompt: proto.String("x"), ExtraJson: tc.extra}}
		if strings.Count(tc.extra, `"options":{`) < 2 { // a Struct has a name once
			reqs = append(reqs, &completionv1.CompletionRequest{Prompt: proto.String("x"), Extra: structOf(t, tc.extra)})
		}
		for _, req := range reqs {
			got := strings.Fields(wrongFields(validate(req, &Limits{MaxTokens: 100})))
			slices.Sort(got)
			if want := strings.Fields(tc.fields); !slices.Equal(got, want) {
				t.Errorf("%v: got %q, want %q", req, got, want)
			}
			if got := wrongFields(validate(req, &Limits{})); got != "" {
				t.Errorf("%v, without a limit: got %q", req, got)
			}
		}
	}
}

// TestMoreTokensWithin checks that objects of parameters within each other are looked
// through once, and not once for each of those around them.
func TestMoreTokensWithin(t *testing.T) {
	extra := func(depth int) *completionv1.CompletionRequest {
		text := strings.Repeat(`{"options":`, depth) + `{"a":"` + strings.Repeat("x", 64<<10) + `"}` + strings.Repeat("}", depth)
		return &completionv1.CompletionRequest{Prompt: proto.String("x"), ExtraJson: text}
	}
	took := func(req *completionv1.CompletionRequest) time.Duration {
		shortest := time.Hour
		for range 3 {
			begun := time.Now()
			if got := wrongFields(validate(req, &Limits{MaxTokens: 100})); got != "" {
				t.Fatal(got)
			}
			shortest = min(shortest, time.Since(begun))
		}
		return shortest
	}
	if one, many := took(extra(1)), took(extra(90)); many > 8*one {
		t.Errorf("in one it takes %v, and in ninety %v", one, many)
	}
}

package testbed

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRecordings checks that what is played of a recording is a stream as the server
// would have sent it: all of its other chunks once and in their order, and each token,
// twice alike where the server sends its text twice.
func TestRecordings(t *testing.T) {
	for _, name := range Recordings {
		t.Run(name, func(t *testing.T) {
			r, err := readRecording(name)
			if err != nil {
				t.Fatal(err)
			}
			const tokens = 20
			replay := &replay{recording: r, tokens: tokens}
			var played []byte
			for number := range tokens + 1 {
				played = replay.appendToken(played, number)
			}
			played = append(played, replay.end()...)

			var others []byte
			next := 0
			for block := range bytes.SplitAfterSeq(played, []byte("\n\n")) {
				data, isData := strings.CutPrefix(string(block), "data: ")
				if isData && !strings.HasPrefix(data, "[DONE]") && !json.Valid([]byte(data)) {
					t.Errorf("%s is no JSON", block)
				}
				marks := bytes.Split(block, []byte("~"))
				if len(marks) == 1 {
					others = append(others, block...)
					continue
				}
				for i := 1; i < len(marks); i += 2 {
					if number, sent, ok := ParseToken(marks[i]); !ok || number != next || time.Since(sent) > time.Minute || !bytes.Equal(marks[i], marks[1]) {
						t.Errorf("%s is not token %d", block, next)
					}
				}
				next++
			}
			transcript, err := readTranscript(name)
			if err != nil {
				t.Fatal(err)
			}
			var once []byte
			for block := range bytes.SplitAfterSeq(transcript, []byte("\n\n")) {
				if aroundText(block) == nil {
					once = append(once, block...)
				}
			}
			if !bytes.Equal(others, once) || !bytes.HasSuffix(once, []byte("data: [DONE]\n\n")) {
				t.Errorf("got\n%s\nwant\n%s", others, once)
			}
			if next != tokens+1 {
				t.Errorf("%d tokens", next)
			}
		})
	}
}

// A stream is asked for by its pace as the name of a model.
func TestPaceNames(t *testing.T) {
	for _, p := range []Pace{{}, {Tokens: 3, Interval: time.Second, Gated: true}, {Tokens: 1, Recording: Recordings[0]}, {Recording: AnyRecording}} {
		if got, err := ParsePace(p.String()); err != nil || got != p {
			t.Errorf("%v: got %v, %v", p, got, err)
		}
	}
	for _, name := range []string{"", "gpt-4o", "cmpl_1", "cmpl_1-2", "cmpl_a-0-true"} {
		if p, err := ParsePace(name); err == nil {
			t.Errorf("%q: got %v", name, p)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(Recordings)))) != len(Recordings) {
		t.Error("a recording is there twice")
	}
}

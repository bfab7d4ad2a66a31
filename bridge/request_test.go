package bridge

import (
	"net/http/httptest"
	"testing"
)

func TestResumeFrom(t *testing.T) {
	tests := []struct {
		header, query string
		sequence      int32 // -1: an error
	}{
		{"", "", 0},
		{"cmpl_x_7", "", 7},
		{"", "?last_event_id=cmpl_x_7", 7},
		{"cmpl_x_7", "?last_event_id=cmpl_x_8&after_sequence=9", 7},
		{"", "?after_sequence=9", 9},
		{"", "?afterSequence=9", 9},
		{"cmpl_x_0", "", 0},
		{"cmpl_y_7", "", -1},
		{"7", "", -1},
		{"", "?last_event_id=cmpl_x_", -1},
		{"", "?after_sequence=-1", -1},
		{"", "?after_sequence=2147483648", -1},
		{"", "?after_sequence=x", -1},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/v1/completions/cmpl_x/events"+tt.query, nil)
		r.Header.Set("Last-Event-ID", tt.header)
		from, err := resumeFrom(r, "cmpl_x")
		if err != nil {
			from.sequence = -1
		}
		if from.sequence != tt.sequence || err == nil && from.id != "cmpl_x" {
			t.Errorf("%q %q: %v, %v; want %d", tt.header, tt.query, from, err, tt.sequence)
		}
	}
}

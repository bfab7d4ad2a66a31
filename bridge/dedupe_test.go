package bridge

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func beginAgain(d *dedupe, path, credentials, count, body string) dedupeTicket {
	r := httptest.NewRequest("POST", path, nil)
	if count != "" {
		r.Header.Set(retryCountHeader, count)
	}
	r.Header.Set("Authorization", credentials)
	return d.begin(r, []byte(body))
}

func TestDedupe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dedupe{window: time.Minute, most: 100}
		first := beginAgain(d, "/a", "Bearer x", "0", "{}")
		for name, other := range map[string]dedupeTicket{
			"another body":              beginAgain(d, "/a", "Bearer x", "1", "{ }"),
			"another path":              beginAgain(d, "/b", "Bearer x", "1", "{}"),
			"other credentials":         beginAgain(d, "/a", "Bearer y", "1", "{}"),
			"what no client says of it": beginAgain(d, "/a", "Bearer x", "", "{}"),
		} {
			if other.found || other.seenRequest == first.seenRequest {
				t.Errorf("%s is taken for the first one", name)
			}
		}
		again := beginAgain(d, "/a", "Bearer x", "1", "{}")
		if !again.found || again.key != first.key || first.key == "" {
			t.Fatalf("got %+v, want %+v", again, first)
		}
		first.end()
		time.Sleep(time.Hour) // the other response goes on
		if third := beginAgain(d, "/a", "Bearer x", "2", "{}"); !third.found {
			t.Error("it is forgotten while there is a response")
		} else {
			third.end()
		}
		again.end()
		time.Sleep(time.Minute - 1)
		if fourth := beginAgain(d, "/a", "Bearer x", "3", "{}"); !fourth.found {
			t.Error("it is forgotten within the window")
		} else {
			fourth.end()
		}
		time.Sleep(time.Minute)
		fifth := beginAgain(d, "/a", "Bearer x", "4", "{}")
		if fifth.found || fifth.key == first.key {
			t.Error("it is known after the window")
		}
		fifth.forget()
		if beginAgain(d, "/a", "Bearer x", "5", "{}").found {
			t.Error("what is forgotten is known")
		}
		sixth := beginAgain(d, "/a", "Bearer x", "5", "{}")
		if seventh := beginAgain(d, "/a", "Bearer x", "0", "{}"); seventh.found {
			t.Error("a request is taken for another of the same body, which it does not repeat")
		} else if sixth.forget(); !beginAgain(d, "/a", "Bearer x", "1", "{}").found {
			t.Error("what is forgotten has another one forgotten, too")
		}
		if off := (&dedupe{}); beginAgain(off, "/a", "", "0", "").seenRequest != nil {
			t.Error("without a window, requests are remembered")
		}
	})
}

func TestDedupeIsBounded(t *testing.T) {
	const most = 5000
	d := &dedupe{window: time.Hour, most: most}
	for i := range most + 10 {
		ticket := beginAgain(d, "/", "", "0", fmt.Sprint(i))
		if (ticket.seenRequest == nil) != (i >= most) {
			t.Fatalf("request %d: %+v", i, ticket)
		}
	}
	if len(d.seen) > most {
		t.Errorf("%d are remembered", len(d.seen))
	}
	short := &dedupe{window: 1, most: most}
	for i := range most + 10 {
		beginAgain(short, "/", "", "0", fmt.Sprint(i)).end()
	}
	if len(short.seen) > 4096 {
		t.Errorf("%d are remembered that are over", len(short.seen))
	}
}

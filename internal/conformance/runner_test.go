package conformance

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	descriptorsFile = "descriptors.binpb"
	atOnce          = 64 // calls
)

// obeyRunner is the client: it makes the calls that the runner asks for, and tells what came
// back, until there are no more. (docs/testing_clients.md of connectrpc/conformance)
func obeyRunner(dir string, in io.Reader, out io.Writer) error {
	types, err := loadTypes(filepath.Join(dir, descriptorsFile))
	if err != nil {
		return err
	}
	bridges := &bridges{dir: dir, started: map[string]*bridge{}}
	defer bridges.stop()
	in = bufio.NewReader(in)
	var writing sync.Mutex
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for {
		var request compatRequest
		if err := types.read(in, "ClientCompatRequest", &request); err != nil {
			if errors.Is(err, io.EOF) {
				return calls.Wait()
			}
			return errors.Join(err, calls.Wait())
		}
		calls.Go(func() error {
			answer := answerTo(context.Background(), bridges, &request)
			writing.Lock()
			defer writing.Unlock()
			err := types.write(out, "ClientCompatResponse", answer)
			if err != nil { // the bridge's JSON is not what the server's types have
				err = types.write(out, "ClientCompatResponse", failed(&request, err))
			}
			return err
		})
	}
}

// answerTo makes a call, and returns what the runner is told of it.
func answerTo(ctx context.Context, bridges *bridges, request *compatRequest) *compatResponse {
	b, err := bridges.inFrontOf(request)
	if err != nil {
		return failed(request, err)
	}
	result, err := b.call(ctx, request)
	if err != nil {
		return failed(request, err)
	}
	return &compatResponse{TestName: request.TestName, Response: result}
}

// failed tells the runner that a call was not made as it should be, or that what came back
// is not an answer of a bridge's.
func failed(request *compatRequest, err error) *compatResponse {
	return &compatResponse{TestName: request.TestName, Error: &compatError{err.Error()}}
}

// types are the runner's messages. Here, they are JSON: a client of the bridge knows no
// protobuf.
type types struct{ *dynamicpb.Types }

func loadTypes(name string) (types, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return types{}, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(b, &set); err != nil {
		return types{}, err
	}
	files, err := protodesc.NewFiles(&set)
	return types{dynamicpb.NewTypes(files)}, err
}

func (t types) message(name protoreflect.Name) (proto.Message, error) {
	kind, err := t.FindMessageByName("connectrpc.conformance.v1." + protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// read reads a message into what its JSON is read into. It returns io.EOF if there is none.
func (t types) read(r io.Reader, name protoreflect.Name, to any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	wire := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, wire); err != nil {
		return fmt.Errorf("%d bytes of a %s: %v", len(wire), name, err) // not %w: this is no end
	}
	m, err := t.message(name)
	if err == nil {
		err = proto.UnmarshalOptions{Resolver: t}.Unmarshal(wire, m)
	}
	if err != nil {
		return err
	}
	b, err := protojson.MarshalOptions{Resolver: t}.Marshal(m)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// write writes what has a message's JSON as that message.
func (t types) write(w io.Writer, name protoreflect.Name, from any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	m, err := t.message(name)
	if err == nil {
		err = protojson.UnmarshalOptions{Resolver: t}.Unmarshal(b, m)
	}
	if err != nil {
		return err
	}
	wire, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(wire))), wire...))
	return err
}

// compatRequest is what of a ClientCompatRequest a client of a bridge needs.
type compatRequest struct {
	TestName        string
	Host            string
	Port            int
	ServerTLSCert   []byte // nil: the server speaks no TLS
	ClientTLSCreds  *struct{ Cert, Key []byte }
	Service, Method string
	StreamType      string
	Compression     string // of the request
	RequestHeaders  []header
	RequestMessages []json.RawMessage
	TimeoutMS       *int64
	Cancel          *struct {
		AfterCloseSendMS  int // milliseconds
		AfterNumResponses int // 0: not by number
	}
}

// header is a Header.
type header struct {
	Name  string   `json:"name"`
	Value []string `json:"value"`
}

// compatResponse is a ClientCompatResponse.
type compatResponse struct {
	TestName string       `json:"testName"`
	Response *result      `json:"response,omitempty"`
	Error    *compatError `json:"error,omitempty"`
}

type compatError struct {
	Message string `json:"message"`
}

// result is a ClientResponseResult: what came back. Payloads and details are as the bridge
// wrote them.
type result struct {
	ResponseHeaders  []header          `json:"responseHeaders"`
	Payloads         []json.RawMessage `json:"payloads"`
	Error            *callError        `json:"error,omitempty"`
	ResponseTrailers []header          `json:"responseTrailers"`

	received func(n int) // is called after each of n payloads
}

// callError is an Error.
type callError struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details"`
}

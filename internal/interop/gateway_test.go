package interop

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// everything is most of what a message of grpc-gateway's own tests can hold.
const everything = `{"singleNested":{"name":"n","amount":7,"ok":"TRUE"},"nested":[{"name":"a"},{"ok":"TRUE"}],"floatValue":1.5,"doubleValue":"-Infinity",` +
	`"int64Value":"-9223372036854775808","uint64Value":"18446744073709551615","int32Value":-1,"fixed64Value":"9","fixed32Value":4294967295,"boolValue":true,` +
	`"stringValue":"ü\u2028\n","bytesValue":"AP8=","uint32Value":5,"enumValue":"ONE","pathEnumValue":"DEF","nestedPathEnumValue":"JKL","sfixed32Value":-3,"sfixed64Value":"-4",` +
	`"sint32Value":-5,"sint64Value":"-6","repeatedStringValue":["a","b",""],"oneofEmpty":{},"mapValue":{"a":"ONE","b":"ZERO"},"mappedStringValue":{"":"x"},` +
	`"mappedNestedValue":{"m":{"amount":1}},"nonConventionalNameValue":"camel","timestampValue":"2016-05-10T10:19:13.123Z","repeatedEnumValue":["ONE",55],"optionalStringValue":""}`

// What the bridge makes of the server of grpc-gateway's own tests, with nothing generated, is
// what grpc-gateway makes of it.
func TestGateway(t *testing.T) {
	const (
		examples = "grpc.gateway.examples.internal.proto."
		p        = examples + "examplepb."
		abe      = p + "ABitOfEverything"
		many     = "/v1/example/a_bit_of_everything"
	)
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Gateway, "--descriptors="+s.descriptors,
		"--expose="+p+"ABitOfEverythingService", "--expose="+p+"StreamService", "--expose="+p+"FlowCombination", "--expose="+p+"ResponseBodyService", "--expose="+p+"NonStandardService")
	for _, tt := range []struct {
		request string
		message protoreflect.FullName
	}{
		{"POST /v1/example/deep_path/in-the-path\n\n" + everything, abe},
		{"GET " + many + "/params/get/a%20name?enumValue=ONE&enum_value_annotation=1&repeated_enum_value=ONE&repeated_enum_value=ZERO", abe},
		{"GET " + many + "/params/get/x?map_value[a]=ONE&mapValue[b]=0&mapped_string_value[k]=v&single_nested.ok=TRUE", abe},
		{"GET " + many + "/params/get/x?int64_value=-9223372036854775808&uint64Value=18446744073709551615&double_value=1e300&bytes_value=AP8%3D&bool_value=true", abe},
		{"GET " + many + "/params/get/x?timestamp_value=2016-05-10T10:19:13.123Z&repeated_string_value=a&repeated_string_value=b&oneof_string=o&optional_string_value=", abe},
		{"GET " + many + "/params/get/x?single_nested.name=theirs&single_nested.amount=3&nonConventionalNameValue=c&unknown=1", abe},
		{"GET " + many + "/params/get/nested_enum/TRUE?path_enum_value=DEF", abe},
		{"GET " + many + "/echo/hello%20there", examples + "sub.StringMessage"}, // proto2, with what is required
		{"POST /v2/example/echo\n\n\"in the body\"", examples + "sub.StringMessage"},
		{"GET /v2/example/echo?value=in%20the%20query", examples + "sub.StringMessage"},
		{"GET " + many + "_repeated/1.5,2/-1e5,3/1,-2/3/4,5/6,7/8/true,false/a,b/AP8%3D,AA%3D%3D/9,10/ONE,ZERO/11/12,13/-14/15,-16", p + "ABitOfEverythingRepeated"},
		{"GET /v2/example/errorwithdetails", ""},
		{"GET " + many + "/none", ""},
		{"DELETE " + many + "/none", ""},
		{"POST " + many + "/none:custom", ""},
		{"POST " + many + "/none:custom:custom", ""},
		{"POST /v1/publishers/p/books?book_id=7\n\n{\"name\":\"n\"}", p + "Book"},
		{"PUT " + many + "/none\n\n{\"stringValue\":\"x\"}", ""},
		{"PATCH /v1/example/non_standard/update?update_mask=id,Num,line_num,thing.subThing.sub_value\n\n{\"id\":\"i\",\"Num\":1,\"lineNum\":2,\"thing\":{\"subThing\":{\"subValue\":\"s\"}},\"STATUS\":\"not\"}", p + "NonStandardMessage"},
		{"PATCH /v1/example/non_standard/update_with_json_names?update_mask=line_num,STATUS,no\n\n{\"ID\":\"not\",\"LineNum\":2,\"status\":\"s\",\"yes\":\"y\"}", p + "NonStandardMessageWithJSONNames"},
		{"GET /responsebody/x", ""},
		{"GET /responsestrings/x", ""},
		{"GET /responsestrings/empty", ""},
		{"GET /responsebody/samename/x", ""},
		{"GET /responsebody/importedtype/x", ""},
		{"GET /responsebody/stream/x", ""},
		{"POST /rpc/empty/stream", ""},
		{"POST /rpc/body/stream\n\n{\"a\":\"x\"}", ""},
		{"POST /rpc/path/x/y/z/stream", ""},
		{"POST /rpc/body/path/x/y/stream\n\n\"z\"", ""},
		{"GET /v1/example/a_bit_of_everything?error=true", ""},
	} {
		s.same(t, bridge, "http://"+s.GatewayHTTP, tt.request, tt.message, (*answer).readGateway)
	}

	// All of it, stored by the bridge, and then read in a stream and by itself.
	stored := ask(t, bridge, "POST "+many+"\n\n"+everything, nil)
	uuid := s.message(t, abe, stored.messages[0])
	id := uuid.Get(uuid.Descriptor().Fields().ByName("uuid")).String()
	s.same(t, bridge, "http://"+s.GatewayHTTP, "GET "+many+"/"+id, abe, nil)
	s.same(t, bridge, "http://"+s.GatewayHTTP, "GET "+many, abe, (*answer).readGateway)
	if a := ask(t, bridge, "GET "+many+"/"+id, nil); a.header.Get("Grpc-Metadata-Uuid") != id {
		t.Errorf("the headers are %v", a.header)
	}
	if a := ask(t, bridge, "GET "+many+"/none", nil); a.header.Get("Grpc-Trailer-Foo") != "foo2" {
		t.Errorf("the headers of an error are %v", a.header)
	}

	// What is not the same, each with its reason.
	for _, tt := range []struct {
		request string
		status  int
		body    string
	}{
		// google/api/http.proto has no field of a field as the body: the route is left out.
		{"POST " + many + "/nested_body_oneof\n\n\"x\"", 405, "not POST"},
		// An escaped slash does not end a segment (the same): grpc-gateway decodes first.
		{"GET " + many + "/echo/a%2Fb%25", 200, `{"value":"a/b%"}`},
		{"POST " + many + "/params/post/in%2Fthe%2Fpath?double_value=1.5\n\n{\"name\":\"n\"}", 200, `"stringValue":"in/the/path"`},
		{"POST /v1/publishers%2Fp/books\n\n{}", 404, ""},
		// Who sends no mask has none (https://google.aip.dev/134): grpc-gateway makes one of the body.
		{"PATCH /v1/example/non_standard/update\n\n{\"id\":\"i\"}", 200, `{"thing":{"subThing":{}}}`},
		// It takes a mask's paths as they are. JSON has them in camel case.
		{"PATCH /v1/example/non_standard/update_with_json_names?update_mask=LineNum,Thingy.SubThing.sub_Value\n\n{\"LineNum\":2,\"Thingy\":{\"SubThing\":{\"sub_Value\":\"s\"}}}", 200, `{"LineNum":"2","Thingy":{"SubThing":{"sub_Value":"s"}}}`},
		// What is unset is left out.
		{"GET /responsebodies/x", 200, `[{"data":"x"}]`},
		// JSON has numbers that an enum does not name (google.protobuf's JSON mapping).
		{"GET " + many + "/params/get/x?enum_value=77", 200, `"enumValue":77`},
		// A stream of google.api.HttpBody would be one body: here its messages are events.
		{"GET /v1/example/download", 200, "data: {\"contentType\":\"text/html\",\"data\":\"SGVsbG8gMQ==\"}\n"},
	} {
		if a := ask(t, bridge, tt.request, nil); a.status != tt.status || !strings.Contains(a.body, tt.body) {
			t.Errorf("%s: %d %s, want %d %s", tt.request, a.status, a.body, tt.status, tt.body)
		}
	}
}

// The client of coder/websocket.
package main

import (
	"context"

	"example.com/reconnect-proxy/real/talk"
	"github.com/coder/websocket"
)

type socket struct{ conn *websocket.Conn }

func (s socket) Read() (string, error) {
	_, data, err := s.conn.Read(context.Background())
	return string(data), err
}

func (s socket) Write(text string, binary bool) error {
	kind := websocket.MessageText
	if binary {
		kind = websocket.MessageBinary
	}
	return s.conn.Write(context.Background(), kind, []byte(text))
}

func (s socket) Close() error { return s.conn.Close(websocket.StatusNormalClosure, "") }

func main() {
	talk.Run(func(url string) (talk.Socket, error) {
		conn, _, err := websocket.Dial(context.Background(), url, nil)
		return socket{conn}, err
	})
}

// The client of gorilla/websocket.
package main

import (
	"time"

	"example.com/reconnect-proxy/real/talk"
	"github.com/gorilla/websocket"
)

type socket struct{ *websocket.Conn }

func (s socket) Read() (string, error) {
	_, data, err := s.ReadMessage()
	return string(data), err
}

func (s socket) Write(text string, binary bool) error {
	kind := websocket.TextMessage
	if binary {
		kind = websocket.BinaryMessage
	}
	return s.WriteMessage(kind, []byte(text))
}

func (s socket) Close() error {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if err := s.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(10*time.Second)); err != nil {
		return err
	}
	_, _, _ = s.ReadMessage()
	return s.Conn.Close()
}

func main() {
	talk.Run(func(url string) (talk.Socket, error) {
		conn, _, err := websocket.DefaultDialer.Dial(url, nil)
		return socket{conn}, err
	})
}

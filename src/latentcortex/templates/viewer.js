// pycortex asks for its files by their names: they are answered from the page.
(function () {
  "use strict";
  var files = JSON.parse(document.currentScript.previousElementSibling.textContent), urls = {};
  Object.keys(files).forEach(function (name) {
    var text = atob(files[name][1]), bytes = new Uint8Array(text.length);
    for (var i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    urls[name] = URL.createObjectURL(new Blob([bytes], {type: files[name][0]}));
  });
  function here(url) {
    var name = String(url).split(/[?#]/)[0].replace(/^(\.\/)+/, "");
    return Object.prototype.hasOwnProperty.call(urls, name) ? urls[name] : url;
  }
  var open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url) {
    var rest = Array.prototype.slice.call(arguments, 2);
    return open.apply(this, [method, here(url)].concat(rest.length ? rest : [true]));
  };
  var source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
  Object.defineProperty(HTMLImageElement.prototype, "src", {
    configurable: true, enumerable: true, get: source.get,
    set: function (url) { source.set.call(this, here(url)); }
  });
  // Drawings are turned into data URLs letter by letter, which fails beyond Latin letters.
  var encode = window.btoa.bind(window);
  window.btoa = function (text) {
    text = String(text);
    if (/^\s*</.test(text)) {
      text = text.replace(/[\u0080-\uffff]/g, function (half, at, all) {
        var unit = half.charCodeAt(0);
        if (unit >= 0xdc00 && unit <= 0xdfff) return "";
        return "&#" + all.codePointAt(at) + ";";
      });
    }
    return encode(text);
  };
  // pycortex looks for a Leap Motion controller on this machine.
  window.WebSocket = function () {};
  window.WebSocket.prototype.send = window.WebSocket.prototype.close = function () {};
})();

package chdb
import ("testing";"fmt";"os";"time";"strings")
func TestExplore(t *testing.T){
 t0:=time.Now()
 lib,err:=Load("/work/main/.engines/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"); if err!=nil {t.Fatal(err)}
 fmt.Println("load",time.Since(t0)); t0=time.Now()
 status:=func(){ b,_:=os.ReadFile("/proc/self/status"); for _,l:=range strings.Split(string(b),"\n"){ if strings.HasPrefix(l,"SigCgt")||strings.HasPrefix(l,"VmRSS")||strings.HasPrefix(l,"Threads"){fmt.Println(l)}}}
 status()
 dir:=t.TempDir()
 c,err:=lib.Connect("--path="+dir); if err!=nil {t.Fatal(err)}
 fmt.Println("connect",time.Since(t0))
 status()
 q:=func(sql string){ t0:=time.Now(); b,st,err:=c.Query(sql,"TSV",nil); if len(b)>300 {b=b[:300]}; fmt.Printf("%s => %q %+v %v [%v]\n",sql,b,st,err,time.Since(t0))}
 q("select version(), chdb()")
 q("select 1"); q("select 1")
 q("SET max_threads=3, max_block_size='1000'"); q("select getSetting('max_threads'), getSetting('max_block_size')")
 q("SET max_threads=DEFAULT, max_block_size=DEFAULT"); q("select getSetting('max_threads'), getSetting('max_block_size')")
 q("SET foo=1"); q("SET max_threads=5, foo=1");q("select getSetting('max_threads')")
 q("create database a"); q("use a"); q("create table t (a UInt32, b String default 'x', c DateTime default now()) engine=MergeTree order by a settings non_replicated_deduplication_window=100"); q("use nope")
 q("select currentDatabase()")
 ins,err:=c.Insert("INSERT INTO t (a,b)","CSV",nil); fmt.Println(err)
 fmt.Println(ins.Append([]byte("1,x\n2,y\n"))); fmt.Println(ins.Done())
 q("select * from t")
 _,err=c.Insert("INSERT INTO nope (a,b)","CSV",nil); fmt.Println(err)
 ins,err=c.Insert("INSERT INTO t (a,b)","CSV",nil); fmt.Println(err)
 fmt.Println(ins.Append([]byte("1,x\nzzz,y\n"))); fmt.Println(ins.Done())
 q("select currentDatabase()")
 for _,f:=range []string{"CSVWithNames","JSON","JSONEachRow","JSONCompactEachRowWithNamesAndTypes","TSVWithNamesAndTypes","Pretty","XML","Parquet","ArrowStream","Values","Markdown","RowBinaryWithNamesAndTypes"} {
  sql:="select number as n from numbers(100000) settings max_block_size=30000"
  b,_,err:=c.Query(sql,f,nil)
  rows,err2:=c.Stream(sql,f,nil)
  var out []byte; n:=0; var tot Stats
  if err2==nil { for { ch,st,err:=rows.Next(); tot.Add(st); if err!=nil {fmt.Println("next",err)}; if len(ch)==0 {break}; out=append(out,ch...); n++}; rows.Close()}
  fmt.Println(f,err,err2,len(b),len(out),n,string(b)==string(out),tot)
 }
 rows,err:=c.Stream("select 1 as x where 0","Native",nil); ch,_,_:=rows.Next(); fmt.Printf("empty native %v %q\n",err,ch); rows.Close()
 b,_,err:=c.Query("select 1 as x where 0","Native",nil); fmt.Printf("empty native query %q\n",b)
 _,err=c.Stream("show tables","TSV",nil); fmt.Println(err)
 _,err=c.Stream("select throwIf(number=3) from numbers(10)","TSV",nil); fmt.Println(err)
 rows,err=c.Stream("select throwIf(number=300000) from numbers(1000000) settings max_block_size=1000","TSV",nil); fmt.Println(err)
 n:=0; for err==nil { var ch []byte; ch,_,err=rows.Next(); n++; if len(ch)==0 {break}}; fmt.Println(n,err); rows.Close()
 b,_,err=c.Query("select {a:String}","TSV",[]Param{{"a","x\\ty"}}); fmt.Printf("%q %v\n",b,err)
 rows,err=c.Stream("select {a:String}","TSV",[]Param{{"a","x\\ty"}}); ch,_,_=rows.Next(); fmt.Printf("%q %v\n",ch,err); rows.Close()
 fmt.Println(c.Classify("select 1")); fmt.Println(c.Classify("insert into t values (1)")); fmt.Println(c.Classify("set x=1"))
 q("create user x"); q("select file('/etc/hostname')"); q("select * from system.processes format Vertical")
 go func(){ time.Sleep(300*time.Millisecond); c2,err:=lib.Connect("--path="+dir); if err!=nil {fmt.Println(err);return}; b,_,err:=c2.Query("select query,query_id from system.processes","TSV",nil); fmt.Printf("%s %v\n",b,err)
   b,_,err=c2.Query("KILL QUERY WHERE query like '%xyz42%' AND query not like '%KILL%' ASYNC","TSV",nil); fmt.Printf("%s %v\n",b,err); c2.Close() }()
 q("select max(sipHash64(number)) from numbers(20000000000) /* xyz42 */")
 status()
 q("select name,value from system.server_settings where changed format TSV")
 q("select getServerSetting('max_server_memory_usage')")
 func(){ defer func(){fmt.Println("recovered",recover()!=nil)}(); var p *int; *p=1 }()
 t0=time.Now(); c.Close(); fmt.Println("close",time.Since(t0)); fmt.Println(lib.Shutdown(),time.Since(t0))
 status()
}
